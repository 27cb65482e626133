#!/usr/bin/env bash
# Intent classification on MiniLM (../shared/data): ten clients, Dirichlet 0.5, ten rounds; LoRA rank 8 and head, head alone, a prompt
# of 8 and head, and one client with all the data as the ceiling. Prints a row of docs/results.md each. Minutes a row.
#   scripts/acceptance/text.sh [banking77|snips] [lora|lora-bf16|head|prompt|central ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ -d ../shared/data ]] || { echo "skipped: ../shared/data is absent"; exit 0; }
set=${1:-snips}
shift || true
[[ $# -gt 0 ]] || set -- lora lora-bf16 head prompt central
steps=$(sed -n 's/.*steps: \([0-9]*\).*/\1/p' "configs/$set-lora.yaml")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for what in "$@"; do
  case $what in
    lora) options=() ;;
    lora-bf16) options=(--set model.backbone_dtype=bfloat16) ;;
    head) options=(--set adapter='{kind: head}' --set model.backbone_dtype=bfloat16 --set train.optimizer.lr=0.01) ;;
    prompt) options=(--set adapter='{kind: prompt, tokens: 8}' --set model.backbone_dtype=bfloat16 --set train.optimizer.lr=0.01) ;;
    central) options=(--set clients.count=1 --set data.partition='{kind: iid}' --set model.backbone_dtype=bfloat16
                      --set train.steps=$((10 * steps))) ;;
    *) echo "unknown: $what" >&2; exit 2 ;;
  esac
  start=$SECONDS
  build/release/bin/fedctl simulate --config "configs/$set-lora.yaml" --run-dir "$work/$what" --quiet --format json "${options[@]}" >"$work/lines"
  python3 - "$set" "$what" $((SECONDS - start)) "$work/lines" <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[4])]
last = lines[-1]
total = last["bytes_up_total"] + last["bytes_down_total"]
print(f"| {sys.argv[1]} | {sys.argv[2]} | {100 * lines[0]['accuracy']:.1f} % | {100 * last['accuracy']:.1f} % | "
      f"{last['loss']:.3f} | {total / 1e6:.1f} MB | {sys.argv[3]} |", flush=True)
PY
done
