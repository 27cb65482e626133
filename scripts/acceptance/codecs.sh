#!/usr/bin/env bash
# The table of docs/codecs.md: bits a value, error and speed of every codec beside the figures that theory or the literature gives.
# Status 1 if one is outside its tolerance (error 2 %, bits 1 to 2.5 %). Half a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec build/release/tests/bench/codec_bench "$@"
