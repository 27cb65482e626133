#!/usr/bin/env bash
# 100,000 simulated clients, 1,000 a round, LoRA on stories260K: peak memory, client updates a second, and
# what `fedctl plan` said of both. Needs ../shared/data.
#   scripts/acceptance/crowd.sh [ROUNDS] [CLIENTS]
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-10} clients=${2:-100000}
shared=${FEDCTL_SHARED:-../shared}
[[ -d $shared/data/models/stories260K ]] || { echo "crowd: skipped, no $shared/data"; exit 0; }
fedctl=${FEDCTL:-build/release/bin/fedctl}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Excerpts of 60 characters, two a client.
python3 - "$shared/data/tiny-shakespeare/input.txt" "$folder/train.jsonl" $((2 * clients)) <<'PYTHON'
import json, sys
text = " ".join(open(sys.argv[1]).read().split())
count = int(sys.argv[3])
with open(sys.argv[2], "w") as out:
    for i in range(count):
        at = i * (len(text) - 60) // count
        print(json.dumps({"prompt": text[at:at + 10], "response": text[at + 10:at + 60]}), file=out)
PYTHON
cat > "$folder/crowd.yaml" <<YAML
name: crowd
rounds: $rounds
model:   {kind: llama, path: $shared/data/models/stories260K/stories260K.bin}
adapter: {kind: lora, rank: 4, alpha: 8, targets: [query, value], train_head: false}
data:
  kind: jsonl
  path: $folder/train.jsonl
  prompt: prompt
  response: response
  tokenizer: $shared/data/models/stories260K/tok512.bin
  longest: 64
  partition: {kind: iid}
  holdout: 0
clients: {count: $clients, per_round: 1000, quorum: 1.0, deadline_s: 600}
train:   {epochs: 1, batch_size: 2, optimizer: {kind: adamw, lr: 0.003}}
method:  {kind: fedavg}
codec:   {up: [{kind: quantize, bits: 4}], down: [{kind: float16}]}
evaluate: {every: 1000000}
YAML
"$fedctl" plan --config "$folder/crowd.yaml" --format json > "$folder/plan.json"
python3 - "$folder" "$fedctl" <<'PYTHON'
import json, os, subprocess, sys, time
folder, fedctl = sys.argv[1:]
plan = json.load(open(f"{folder}/plan.json"))["simulation"]
start = time.monotonic()
process = subprocess.Popen([fedctl, "simulate", "--config", f"{folder}/crowd.yaml", "--run-dir", f"{folder}/run", "--quiet"],
                           stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
took = time.monotonic() - start
assert status == 0, status
rounds = [e for e in map(json.loads, open(f"{folder}/run/journal.jsonl")) if e["event"] == "round" and e["round"] > 0]
times = sorted(e["round_ms"] / 1e3 for e in rounds)
memory = used.ru_maxrss / 1024
mib = plan["peak_memory"] / 2**20
print(f"{len(rounds)} rounds of {rounds[0]['clients']}: {times[len(times) // 2]:.2f} s a round (planned {plan['round_s']:.2f}), "
      f"{rounds[0]['clients'] / times[len(times) // 2]:.0f} client updates/s")
print(f"peak memory {memory:.0f} MiB (planned {mib:.0f}), whole run {took:.1f} s (planned {plan['total_s']:.1f})")
print(f"bytes a client and round: {rounds[-1]['bytes_up'] / rounds[-1]['clients']:.0f} up, {rounds[-1]['bytes_down'] / rounds[-1]['clients']:.0f} down")
PYTHON
