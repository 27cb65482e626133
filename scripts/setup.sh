#!/usr/bin/env bash
# Installs what fedctl needs to build and run on Debian 12. Idempotent: a second run changes nothing.
#   scripts/setup.sh          build and test dependencies
#   scripts/setup.sh --dev    also clang (fuzzing, sanitizers), clang-format, clang-tidy
set -euo pipefail

packages=(
  build-essential cmake ninja-build ccache pkg-config git python3
  libboost1.81-dev libboost-program-options1.81-dev nlohmann-json3-dev libyaml-cpp-dev catch2
  libtorch-dev libopenblas0-openmp zlib1g-dev libdeflate-dev libgoogle-perftools-dev libzstd-dev libsodium-dev libicu-dev libssl-dev
)
if [[ "${1:-}" == --dev ]]; then
  packages+=(clang-14 libclang-rt-14-dev clang-format-14 clang-tidy-14)
elif [[ $# -gt 0 ]]; then
  sed -n '2,4p' "$0" >&2
  exit 2
fi

as_root() { if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi; }
installed() { [[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" == ii* ]]; }

missing=()
for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
if [[ ${#missing[@]} -eq 0 ]]; then
  echo "setup: all ${#packages[@]} packages are installed"
else
  echo "setup: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -q
  as_root apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# Debian's default OpenBLAS (pthread) is slower on two threads than on one; the OpenMP build is not.
arch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
for library in libblas.so.3 liblapack.so.3 libopenblas.so.0; do
  link="$library-$arch"
  wanted=$(update-alternatives --query "$link" 2>/dev/null | sed -n 's/^Alternative: //p' | grep openblas-openmp || true)
  current=$(update-alternatives --query "$link" 2>/dev/null | sed -n 's/^Value: //p')
  if [[ -n "$wanted" && "$wanted" != "$current" ]]; then
    echo "setup: $library -> $wanted"
    as_root update-alternatives --set "$link" "$wanted" >/dev/null
  fi
done
echo "setup: done"
