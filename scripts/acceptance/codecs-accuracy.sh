#!/usr/bin/env bash
# Accuracy against bytes, by codec: LoRA and head on banking77 (MiniLM with a bfloat16 backbone; a minute or two a run) or LoRA and
# output layer on Shakespeare's roles. Prints accuracy, loss, MB of messages up and down and of handshakes of every codec and seed. THREADS: worker threads.
#   scripts/acceptance/codecs-accuracy.sh [banking77|shakespeare] [SEED,SEED...] [CODEC ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ -d ../shared/data ]] || { echo "skipped: ../shared/data is absent"; exit 0; }
set=${1:-banking77}
seeds=${2:-1,2,3}
shift $(($# < 2 ? $# : 2))
[[ $# -gt 0 ]] || set -- none int8 int4 auto2 auto1-ef14 auto0.5-ef14 auto0.25-ef14 ternary topk drive
case $set in
  banking77) config=(--config configs/banking77-lora.yaml --set model.backbone_dtype=bfloat16) ;;
  shakespeare) config=(--config configs/shakespeare-lora-head.yaml) ;;
  *) echo "unknown: $set" >&2; exit 2 ;;
esac
auto() { echo "{kind: auto, bits_per_parameter: $1}"; }
feedback() { options+=(--set "codec.error_feedback=$1"); }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for seed in ${seeds//,/ }; do
  for codec in "$@"; do
    options=(--set codec.down=[] --set codec.up=[] --set codec.error_feedback=none)
    case $codec in
      none) ;;
      int8 | int4) options+=(--set "codec.up={kind: quantize, bits: ${codec#int}}") ;;
      auto*-ef*) options+=(--set "codec.up=$(auto "${codec:4:-5}")"); feedback "${codec: -4}" ;;
      auto*) options+=(--set "codec.up=$(auto "${codec:4}")") ;;
      ternary) options+=(--set 'codec.up=[{kind: topk, ratio: 0.05}, {kind: sign}]'); feedback ef14 ;;
      topk) options+=(--set 'codec.up={kind: topk, ratio: 0.01}'); feedback ef14 ;;
      topk-ef21) options+=(--set 'codec.up={kind: topk, ratio: 0.01}'); feedback ef21 ;;
      eden0*) options+=(--set "codec.up={kind: eden, bits: 1, keep: ${codec#eden}}") ;;
      drive) options+=(--set 'codec.up=drive') ;;
      both) options+=(--set "codec.up=$(auto 0.25)" --set "codec.down=$(auto 1)" --set codec.error_feedback_down=ef21); feedback ef14 ;;
      *) echo "unknown: $codec" >&2; exit 2 ;;
    esac
    rm -rf "$work/run"
    build/release/bin/fedctl simulate "${config[@]}" --set "seed=$seed" --set evaluate.every=100 ${THREADS:+--threads "$THREADS"} --run-dir "$work/run" --quiet --format json "${options[@]}" >"$work/lines"
    python3 - "$set" "$codec" "$seed" "$work/lines" <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[4])]
last = lines[-1]
messages = {way: sum(line["bytes"][way]["payload"] + line["bytes"][way]["framing"] for line in lines) / 1e6 for way in ("up", "down")}
rest = (last["bytes_up_total"] + last["bytes_down_total"]) / 1e6 - sum(messages.values())  # handshakes
print(f"| {sys.argv[1]} | {sys.argv[2]} | {sys.argv[3]} | {100 * last['accuracy']:.1f} % | {last['loss']:.3f} | "
      f"{messages['up']:.3f} | {messages['down']:.3f} | {rest:.3f} |", flush=True)
PY
  done
done
