#!/usr/bin/env bash
# Spoken digits of an unseen speaker on KWT-1 (../shared/data): five speakers are the clients, the sixth is the test set. Prints the
# accuracy of head, LoRA rank 4 and full tuning, for one held-out speaker or the mean over several. A minute a row and speaker.
#   scripts/acceptance/fsdd.sh [speaker number ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ -d ../shared/data ]] || { echo "skipped: ../shared/data is absent"; exit 0; }
[[ $# -gt 0 ]] || set -- 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for what in head lora full; do
  case $what in
    head) options=(--set adapter=head) ;;
    lora) options=(--set adapter='{kind: lora, rank: 4, alpha: 8}') ;;
    full) options=(--set adapter=full --set train.optimizer.lr=0.0005) ;;
  esac
  for speaker in "$@"; do
    build/release/bin/fedctl simulate --config configs/fsdd-head.yaml --run-dir "$work/$what-$speaker" --quiet --format json \
      --set data.test_equals="$speaker" "${options[@]}" | tail -1
  done | python3 -c 'import json, sys
last = [json.loads(line) for line in sys.stdin]
total = sum(line["bytes_up_total"] + line["bytes_down_total"] for line in last) / len(last)
accuracies = [100 * line["accuracy"] for line in last]
print("| %s | %s | %.1f %% | %.1f MB |" % (sys.argv[1], " ".join("%.1f" % a for a in accuracies),
      sum(accuracies) / len(accuracies), total / 1e6), flush=True)' "$what"
done
