#!/bin/bash
# Runs on a machine with an NVIDIA GPU, in a built work tree.
#
#   bench/gpu.sh check      the tests that need a GPU
#   bench/gpu.sh sanitize   our own kernels under compute-sanitizer: addresses, races, barriers
#
# PYTHON names the interpreter (default: .venv/bin/python); further arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
what=${1:-check}
[ $# -eq 0 ] || shift

case $what in
  check)
    "$python" -m pytest -q test/gpu "$@"
    ;;
  sanitize)
    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    [ -x "$sanitizer" ] || {
      echo "compute-sanitizer not found: install the CUDA toolkit, or put it into PATH" >&2
      exit 1
    }
    # Our kernels alone: hazards in cuDNN's and torch's are not ours to report.
    check() {
      tool=$1
      shift
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" --error-exitcode 9 \
        --kernel-name kns=stator_ "$@"
    }
    echo "== the check itself: a race that was planted is found, one of another's kernel is not"
    code=0
    check racecheck "$python" test/gpu/planted_race.py stator_planted > /dev/null || code=$?
    [ $code -eq 9 ] || { echo "the planted race was not found (exit code $code)" >&2; exit 1; }
    check racecheck "$python" test/gpu/planted_race.py planted
    for tool in memcheck racecheck synccheck; do
      echo "== $tool"
      check $tool "$python" -m pytest -q test/gpu/test_kernels.py "$@"
    done
    ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
