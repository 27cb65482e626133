#!/usr/bin/env bash
# sfprompt beside federated prompt tuning without a split: ten clients, glyphs the backbone has not seen, dealt out by label (docs/methods/sfprompt.md). About 3 minutes.
#   scripts/acceptance/sfprompt.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
fedctl=build/release/bin/fedctl
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$fedctl" backbone --config configs/backbone.yaml --out "$folder/backbone" > "$folder/log" 2>&1
for seed in 1 2 3; do
  for method in "fedavg" "sfprompt, keep: 1.0" "sfprompt, keep: 0.5" "sfprompt, keep: 1.0, local: false" "sfprompt, keep: 0.5, local: false" "sfprompt, keep: 0.5, score: smallest" "sfprompt, keep: 0.5, blocks: 2"; do
    cat > "$folder/run.yaml" <<YAML
name: sfprompt
seed: $seed
rounds: 30
model:   {kind: vit, path: $folder/backbone}
adapter: {kind: prompt, tokens: 8}
data:    {kind: glyphs, classes_from: 10, classes: 10, hands: 40, per_hand: 30, partition: {kind: dirichlet, alpha: 0.5}, holdout: 0}
clients: {count: 10, quorum: 1.0}
train:   {epochs: 1, batch_size: 16, optimizer: {kind: adamw, lr: 0.01}}
method:  {kind: $method}
YAML
    rm -rf "$folder/run"
    printf 'seed %s  %-40s' "$seed" "$method"
    "$fedctl" simulate --config "$folder/run.yaml" --run-dir "$folder/run" --quiet | grep '"round":30,"event":"round"' |
      sed -E 's/.*"accuracy":([0-9.]+).*"bytes_up":([0-9]+),"bytes_down":([0-9]+).*/accuracy \1  bytes of a round \2 up, \3 down/'
  done
done
