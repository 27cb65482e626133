#!/usr/bin/env bash
# Instructions of one client update through the whole path without training, by callgrind: sampling, frames, codecs,
# inspection, sum, checkpoint. Wall time is noisy here; instructions are not. Compares with
# scripts/bench/instructions.txt and fails where one has grown by more than 5 %.
#   scripts/bench/instructions.sh [--write]      --write: keep what was measured
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v valgrind > /dev/null || { echo "instructions: skipped, no valgrind"; exit 0; }
fedctl=${FEDCTL:-build/release/bin/fedctl}
kept=scripts/bench/instructions.txt
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat > "$folder/exp.yaml" <<'YAML'
name: instructions
rounds: 2
model:   {kind: quadratic}
adapter: {kind: full}
data:    {kind: quadratic_targets, rows: 32, cols: 32, clients: 200, partition: {kind: by_field}, holdout: 0}
clients: {count: 200, per_round: 100, quorum: 1.0}
train:   {steps: 1, batch_size: 1, optimizer: {kind: sgd, lr: 0.05, momentum: 0}}
method:  {kind: fedavg}
evaluate: {every: 1000000}
YAML

# Instructions of a run of so many rounds.
count() {
  local rounds=$1
  shift
  valgrind --tool=callgrind --callgrind-out-file="$folder/out" "$fedctl" simulate --config "$folder/exp.yaml" --quiet --threads 1 \
    --run-dir "$folder/run" --fresh --set rounds="$rounds" "$@" > /dev/null 2> "$folder/log"
  sed -n 's/^.*Collected : *\([0-9]*\).*$/\1/p' "$folder/log"
}

grown=0
: > "$folder/now"
measure() {
  local name=$1
  shift
  local few many each before
  few=$(count 2 "$@")
  many=$(count 7 "$@")
  each=$(((many - few) / 500))
  before=$(sed -n "s/^$name //p" "$kept" 2> /dev/null || true)
  printf '%-28s %8d a client update%s\n' "$name" "$each" "${before:+ (kept: $before)}"
  echo "$name $each" >> "$folder/now"
  if [[ -n $before ]] && ((each * 100 > before * 105)); then grown=1; fi
}
measure float32
measure quantize-4 --set codec.up.0.kind=quantize --set codec.up.0.bits=4 --set codec.down.0.kind=float16
measure topk-ef14 --set codec.up.0.kind=topk --set codec.up.0.ratio=0.05 --set codec.error_feedback=ef14

if [[ ${1:-} == --write ]]; then cp "$folder/now" "$kept"; fi
if ((grown)); then
  echo "instructions: more than 5 % above $kept; if that is meant, --write keeps the new numbers" >&2
  exit 1
fi
