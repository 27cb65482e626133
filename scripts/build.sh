#!/usr/bin/env bash
# Configures and builds one preset (default: release). Prints how long it took.
#   scripts/build.sh [release|dev|asan|tsan|fuzz|tidy]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
start=$SECONDS
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" -j "$(nproc)" | grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking|Re-checking)' || true
cmake --build --preset "$preset" -j "$(nproc)" >/dev/null
echo "build: $preset in $((SECONDS - start)) s, build/$preset/bin/fedctl"
