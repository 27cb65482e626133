#!/usr/bin/env bash
# Builds and tests against the LibTorch inside PyPI's package `torch` (2.x) instead of Debian's. The wheel is a CUDA build whose
# CMake package wants the CUDA toolkit; libtorch_cpu and libc10 alone are linked. About 1.5 GB of download, once.
#   scripts/torch2.sh [torch version]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.cache/torch2
if [[ ! -d $venv ]]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --no-deps "torch${1:+==$1}"
  # What libtorch_cpu.so itself is linked with, found by asking the loader.
  lib=$(echo "$venv"/lib/python3*/site-packages/torch/lib)
  for need in $(LD_LIBRARY_PATH=$lib ldd "$lib/libtorch_cpu.so" | sed -n 's/^\s*\(lib[^ ]*\) => not found.*/\1/p'); do
    case $need in
      libcudart*) packages=(nvidia-cuda-runtime nvidia-cuda-runtime-cu12) ;;
      libcupti*) packages=(nvidia-cuda-cupti nvidia-cuda-cupti-cu12) ;;
      *) echo "torch2: libtorch_cpu.so needs $need" >&2; exit 1 ;;
    esac
    "$venv/bin/pip" install -q --no-deps "${packages[0]}" || "$venv/bin/pip" install -q --no-deps "${packages[1]}"
  done
fi
torch=$(echo "$PWD/$venv"/lib/python3*/site-packages/torch)
libraries=$torch/lib:$(find "$PWD/$venv" -name 'libcu*.so*' -printf '%h\n' | sort -u | paste -sd:)
export LD_LIBRARY_PATH=$libraries
cmake -S . -B build/torch2 -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$torch" >/dev/null
cmake --build build/torch2 -j "$(nproc)" --target fedctl fedctl_learn_torch learn_torch_test
build/torch2/tests/learn_torch_test
FEDCTL=build/torch2/bin/fedctl python3 -m unittest discover -s tests/e2e -p 'identity_test.py'
