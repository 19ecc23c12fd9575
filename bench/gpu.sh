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
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
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
    # Each test in a process of its own, so that one that breaks hides no other; without launches
    # that overlap, which the tools do not follow.
    export STATOR_PDL=0
    tests=$("$python" -m pytest -q --collect-only test/gpu/test_kernels.py "$@" | grep ::)
    failed=0
    for tool in memcheck racecheck synccheck; do
      for test in $tests; do
        code=0
        check $tool "$python" -m pytest -q "$test" > "$log" 2>&1 || code=$?
        [ $code -eq 0 ] || { failed=1; tail -20 "$log"; }
        echo "$tool $test: exit code $code"
      done
    done
    exit $failed
    ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
