#!/usr/bin/env bash
# Fuzzes decoders and parsers under ASan and UBSan, each for SECONDS, and keeps at most 64 inputs of each that reach something new in
# tests/fuzz/corpus (replayed by ctest). Prints executions and findings; status 1 if there are any. Needs clang (scripts/setup.sh --dev).
#   scripts/fuzz.sh SECONDS [TARGET ...]      a target: fuzz_frame, fuzz_config, fuzz_codec_topk ... (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?SECONDS is missing}
shift
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzz_checkpoint fuzz_codec fuzz_config fuzz_control fuzz_frame fuzz_handshake fuzz_method_clients fuzz_methods fuzz_safetensors fuzz_spool fuzz_tokenizer -j "$(nproc)" | grep -E "FAILED|error" && exit 1
if [[ $# -eq 0 ]]; then
  kinds=$(sed -n 's/^CODEC(\([a-z0-9]*\)).*/\1/p' lib/codec/codecs.def | sed 's/^adaptive$/auto/')
  set -- fuzz_checkpoint fuzz_config fuzz_control fuzz_frame fuzz_handshake fuzz_method_clients fuzz_methods fuzz_safetensors fuzz_spool fuzz_tokenizer $(for kind in $kinds ef14 ef21 econtrol; do echo "fuzz_codec_$kind"; done)
fi
status=0
for target in "$@"; do
  program=$target
  unset FEDCTL_FUZZ_CODEC
  if [[ $target == fuzz_codec_* ]]; then
    program=fuzz_codec
    export FEDCTL_FUZZ_CODEC=${target#fuzz_codec_}
  fi
  corpus=tests/fuzz/corpus/$target
  work=$(mktemp -d)
  mkdir -p "$corpus" "$work/new" "$work/kept"
  if ! build/fuzz/tests/fuzz/$program -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$work/" "$work/new" "$corpus" >"$work/log" 2>&1; then
    status=1
    echo "$target: FOUND, see $work"
    tail -40 "$work/log"
    continue
  fi
  build/fuzz/tests/fuzz/$program -merge=1 "$work/kept" "$corpus" "$work/new" >/dev/null 2>&1
  find "$work/kept" -type f -size -2k | sort | head -64 | xargs -r cp -t "$corpus"  # by hash: a fair choice
  echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log") executions, $(find "$corpus" -type f | wc -l) inputs kept"
  rm -rf "$work"
done
exit $status
