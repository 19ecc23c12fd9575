#!/bin/bash
# Runs on a machine with an NVIDIA GPU, in a built work tree.
#
#   bench/gpu.sh check      the tests that need a GPU
#   bench/gpu.sh sanitize   some of them under compute-sanitizer: addresses, races, synchronisation
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
    for tool in memcheck racecheck synccheck; do
      echo "== $tool"
      # Kernels alone: what torch's allocator and libraries do is not ours to report.
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool $tool --error-exitcode 9 \
        "$python" -m pytest -q test/gpu/test_cuda.py -k "test_results or strides" "$@"
    done
    ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
