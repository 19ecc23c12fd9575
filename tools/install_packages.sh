#!/bin/sh
# Makes sure that the system packages the build needs are there. Each is probed by what it brings, so
# that packages from elsewhere count too; what is missing is installed by apt-get as root or with
# sudo. Where that cannot be done, says what is missing and exits with 1.
set -u

has_header() { echo "#include <$1>" | c++ -E -x c++ -std=c++20 - >/dev/null 2>&1; }

# package | the probe that succeeds when it is there
missing=$(while IFS='|' read -r package probe; do
  eval "$probe" </dev/null >/dev/null 2>&1 || echo "$package"
done <<'EOF'
g++|c++ --version
cmake|cmake --version
ninja-build|ninja --version
ccache|ccache --version
pkg-config|pkg-config --version
python3-venv|python3 -c 'import ensurepip, venv'
libfmt-dev|has_header fmt/format.h
libspdlog-dev|has_header spdlog/spdlog.h
nlohmann-json3-dev|has_header nlohmann/json.hpp
libcli11-dev|has_header CLI/CLI.hpp
libhwy-dev|has_header hwy/highway.h
libzip-dev|has_header zip.h
libxxhash-dev|has_header xxhash.h
libgtest-dev|has_header gtest/gtest.h
libgmock-dev|has_header gmock/gmock.h
EOF
)
[ -z "$missing" ] && exit 0
missing=$(echo $missing)

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if command -v apt-get >/dev/null && { [ -z "$as_root" ] || command -v sudo >/dev/null; }; then
  echo "installing $missing"
  export DEBIAN_FRONTEND=noninteractive
  $as_root apt-get update -qq
  $as_root apt-get install -y -qq --no-install-recommends $missing && exit 0
fi
echo "missing system packages (by their Debian names): $missing" >&2
echo "install them, then run make again" >&2
exit 1
