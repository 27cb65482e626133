#!/usr/bin/env bash
# Low-rank and entropy-coded uplinks for every weight of fashion-mnist's fully connected model, 60 rounds: accuracy after the last one and
# MB of messages and handshakes of every codec and seed, a row each (intervals.py makes the table). Seconds a run. THREADS: worker threads.
#   scripts/acceptance/fashion-codecs.sh [SEED,SEED...] [CODEC ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ -d ../shared/data ]] || { echo "skipped: ../shared/data is absent"; exit 0; }
seeds=${1:-1,2,3,4,5}
shift $(($# < 1 ? $# : 1))
[[ $# -gt 0 ]] || set -- float32 powersgd8 powersgd8-ef14 powersgd4 powersgd4-ef14 auto auto-ef14 powersgd4+int8 powersgd4+int8-ef14
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for seed in ${seeds//,/ }; do
  for codec in "$@"; do
    feedback=none
    [[ $codec != *-ef14 ]] || feedback=ef14
    case ${codec%-ef14} in
      float32) chain='[]' ;;
      powersgd8) chain='{kind: powersgd, rank: 8}' ;;
      powersgd4) chain='{kind: powersgd, rank: 4}' ;;
      powersgd4+int8) chain='[{kind: powersgd, rank: 4}, {kind: quantize, bits: 8}]' ;;
      auto) chain='{kind: auto, bits_per_parameter: 0.5}' ;;
      *) echo "unknown: $codec" >&2; exit 2 ;;
    esac
    rm -rf "$work/run"
    build/release/bin/fedctl simulate --config configs/fashion-mnist-mlp.yaml --set "seed=$seed" --set evaluate.every=100 --set "codec.up=$chain" \
      --set "codec.error_feedback=$feedback" ${THREADS:+--threads "$THREADS"} --run-dir "$work/run" --quiet --format json >"$work/lines"
    python3 - "$codec" "$seed" "$work/lines" <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[3])]
last = lines[-1]
messages = {way: sum(line["bytes"][way]["payload"] + line["bytes"][way]["framing"] for line in lines) / 1e6 for way in ("up", "down")}
rest = (last["bytes_up_total"] + last["bytes_down_total"]) / 1e6 - sum(messages.values())  # handshakes
print(f"| fashion-mnist | {sys.argv[1]} | {sys.argv[2]} | {100 * last['accuracy']:.1f} % | {last['loss']:.3f} | "
      f"{messages['up']:.3f} | {messages['down']:.3f} | {rest:.3f} |", flush=True)
PY
  done
done
