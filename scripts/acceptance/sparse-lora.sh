#!/usr/bin/env bash
# What the profile sparse_lora and its neighbours cost in accuracy: LoRA, 10 of 50 clients a round, on the built-in glyphs (ViT, 60
# rounds) or snips (MiniLM with a bfloat16 backbone, 30 rounds). Prints accuracy, loss, MB of messages up and down and of handshakes. THREADS: worker threads.
#   scripts/acceptance/sparse-lora.sh [glyphs|snips] [ALPHA,ALPHA...] [SEED,SEED...] [SETTING ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
task=${1:-glyphs}
alphas=${2:-0.1,0.5}
seeds=${3:-1,2,3}
shift $(($# < 3 ? $# : 3))
[[ $# -gt 0 ]] || set -- float32 nesterov sparse_lora sparse_lora-ef14 topk4-ef21 up-eden0.13 up-eden0.3
case $task in
  glyphs)
    [[ -d runs/backbone ]] || build/release/bin/fedctl backbone --config configs/backbone.yaml --out runs/backbone --quiet
    config=(--config configs/quickstart.yaml --set data.hands=50 --set data.per_hand=60 --set rounds=60
      --set train="{steps: 10, batch_size: 16, optimizer: {kind: adamw, lr: 0.003}}") ;;
  snips)
    [[ -d ../shared/data ]] || { echo "skipped: ../shared/data is absent"; exit 0; }
    config=(--config configs/snips-lora.yaml --set model.backbone_dtype=bfloat16 --set rounds=30 --set train.steps=8) ;;
  *) echo "unknown: $task" >&2; exit 2 ;;
esac
config+=(--set clients.count=50 --set clients.per_round=10 --set train.schedule.kind=cosine --set evaluate.every=100)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
outer=(--set 'method.server_optimizer={kind: momentum, nesterov: true, lr: 0.3, beta: 0.5}')
for alpha in ${alphas//,/ }; do
  for seed in ${seeds//,/ }; do
    for setting in "$@"; do
      chain='[{kind: topk, chunk: 4096, ratio: 0.04}, {kind: sign}]'
      case $setting in
        float32) options=(--set codec.up=[] --set codec.down=[]) ;;
        nesterov) options=(--set codec.up=[] --set codec.down=[] "${outer[@]}") ;;
        sparse_lora) options=(--set 'codec={profile: sparse_lora}') ;;
        sparse_lora-ef14) options=(--set 'codec={profile: sparse_lora, error_feedback: ef14}') ;;
        topk4-ef21) options=(--set "codec={profile: sparse_lora, up: $chain, down: $chain}") ;;
        both-*) IFS=- read -r _ up down lr <<<"$setting"  # both-UP-DOWN[-SERVER_LR]
          options=(--set "codec={up: {kind: eden, bits: 1, keep: $up}, down: {kind: auto, bits_per_parameter: $down}, error_feedback_down: ef21}"
            --set "method.server_optimizer={kind: sgd, lr: ${lr:-1}}") ;;
        up-eden*) options=(--set codec.down=[] --set "codec.up={kind: eden, bits: 1, keep: ${setting#up-eden}}") ;;
        *) echo "unknown: $setting" >&2; exit 2 ;;
      esac
      rm -rf "$work/run"
      build/release/bin/fedctl simulate "${config[@]}" --set "data.partition={kind: dirichlet, alpha: $alpha}" --set "seed=$seed" \
        ${THREADS:+--threads "$THREADS"} --run-dir "$work/run" --quiet --format json "${options[@]}" >"$work/lines"
      python3 - "$task" "$alpha" "$setting" "$seed" "$work/lines" <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[5])]
last = lines[-1]
messages = {way: sum(line["bytes"][way]["payload"] + line["bytes"][way]["framing"] for line in lines) / 1e6 for way in ("up", "down")}
rest = (last["bytes_up_total"] + last["bytes_down_total"]) / 1e6 - sum(messages.values())  # handshakes
print(f"| {sys.argv[1]} | {sys.argv[2]} | {sys.argv[3]} | {sys.argv[4]} | {100 * last['accuracy']:.1f} % | {last['loss']:.3f} | "
      f"{messages['up']:.3f} | {messages['down']:.3f} | {rest:.3f} |", flush=True)
PY
    done
  done
done
