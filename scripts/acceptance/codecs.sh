#!/usr/bin/env bash
# The tables of docs/codecs.md: bits a value, error and speed of every codec, and of the entropy coders, beside the figures that theory
# or the literature gives. Status 1 if one is outside its tolerance. A minute.
#   scripts/acceptance/codecs.sh [CHAIN...]     these chains alone: topk:ratio=0.05+sign
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ $# -gt 0 ]]; then exec build/release/tests/bench/codec_bench "$@"; fi
status=0
build/release/tests/bench/codec_bench || status=1
build/release/tests/bench/coder_bench || status=1
exit $status
