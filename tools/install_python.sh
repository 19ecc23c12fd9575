#!/bin/sh
# Makes the Python environment .venv and installs into it all that pyproject.toml asks for and the
# package itself, in place: python/torch_stator is imported from the work tree, and the build puts
# its libraries there. Uses uv when it is there or can be had, else pip. Arguments: further extras of
# pyproject.toml.
set -eu

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "python3 is $(python3 --version 2>&1): 3.10 or newer is needed" >&2
  exit 1
}
python=.venv/bin/python
[ -x $python ] || python3 -m venv .venv

if uv --version >/dev/null 2>&1; then
  pip="uv pip install --quiet --python $python"
else
  $python -m pip --version >/dev/null 2>&1 || $python -m ensurepip >/dev/null
  if $python -m pip install --quiet --disable-pip-version-check uv; then
    pip="$python -m uv pip install --quiet --python $python"
  else
    pip="$python -m pip install --quiet --disable-pip-version-check"
  fi
fi
extras=dev
for extra in "$@"; do extras="$extras,$extra"; done
echo "installing the Python environment into .venv (about 4 GB with torch): $extras"
# The C++ part is built by CMake into build/, not by this install.
$pip --constraint constraints.txt --config-settings wheel.cmake=false \
  --config-settings editable.mode=inplace --editable ".[$extras]" --editable ./compat

# transformers imports torchaudio wherever it finds it, and its last release refuses the CUDA version
# of newer PyTorch: it lies in a folder that the zoo alone looks into (bench/zoo/audio.py).
case " $* " in
  *" zoo "*) $pip --constraint constraints.txt --no-deps --target .venv/torchaudio torchaudio ;;
esac
