#!/usr/bin/env bash
# Real models on real data (../shared/data): prints the metric on the test data before the first and after the last round beside its
# target and fails outside it; for fashion-mnist also of the round that is best on the clients' held-out examples. Never the best on
# the test data: that is chosen with what it is measured on. Minutes, so not part of scripts/test.sh. THREADS: worker threads.
#   scripts/acceptance/real-data.sh [lora|head|prompt|full|mlp ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
fedctl=build/release/bin/fedctl
data=../shared/data
[[ -d $data ]] || { echo "skipped: $data is absent"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# name, metric, comparison (le or ge), target, configuration and overrides
measure() {
  local name=$1 metric=$2 compare=$3 target=$4
  shift 4
  local start=$SECONDS
  nice -n 10 $fedctl simulate --config "$@" ${THREADS:+--threads "$THREADS"} --run-dir "$work/$name" --format json --quiet >"$work/$name.json"
  python3 - "$name" "$metric" "$compare" "$target" "$((SECONDS - start))" "$work/$name.json" <<'PY' || failed=1
import json, sys
name, metric, compare, target, seconds, path = sys.argv[1:]
rounds = [json.loads(line) for line in open(path)]
first, last = rounds[0][metric], rounds[-1][metric]
good = last <= float(target) if compare == "le" else last >= float(target)
total = rounds[-1]["bytes_up_total"] + rounds[-1]["bytes_down_total"]
chosen = ""
scores = {line["round"] - 1: line["client_accuracy"]["mean"] for line in rounds if line.get("client_accuracy")}
if scores:  # clients score the weights that their round began with
    best = max(scores, key=scores.get)
    chosen = f"; best on held-out data: {rounds[best][metric]:.3f} in round {best}"
print(f"{name:8} {metric} {first:.3f} -> {last:.3f} in {rounds[-1]['round']} rounds, target {target}: "
      f"{'ok' if good else 'MISSED'}; {total / 1e6:.1f} MB in all, {seconds} s{chosen}")
sys.exit(not good)
PY
}

for what in "${@:-lora head prompt full mlp}"; do
  for one in $what; do
    case $one in
      lora) measure lora loss le 3.35 configs/shakespeare-lora.yaml ;;  # alone; centralised training ends at 3.18
      head) measure lora+head loss le 3.05 configs/shakespeare-lora-head.yaml ;;
      prompt) measure prompt loss le 3.6 configs/shakespeare-prompt.yaml ;;
      full) measure full loss le 2.8 configs/shakespeare-full.yaml ;;
      mlp) measure mlp accuracy ge 0.80 configs/fashion-mnist-mlp.yaml --set evaluate.on=both --set evaluate.every=1 --set data.holdout=0.1 ;;
      *) echo "unknown: $one" >&2; exit 2 ;;
    esac
  done
done
exit $failed
