#!/usr/bin/env bash
# From a fresh clone to a federated fine-tuning over TCP on embedded data: one server, eight client processes.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ ${1:-} == --no-setup ]] || scripts/setup.sh
scripts/build.sh release
fedctl=build/release/bin/fedctl
clients=8

echo "quickstart: training the small frozen backbone"
$fedctl backbone --config configs/backbone.yaml --out runs/backbone --quiet

work=$(mktemp -d)
pids=()
stop() { kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"; }
trap stop EXIT

echo "quickstart: one server, $clients clients"
$fedctl server --config configs/quickstart.yaml --fresh --listen 127.0.0.1:0 --port-file "$work/port" \
  --format text --quiet --threads 1 &
server=$!
pids+=("$server")
until [[ -s $work/port ]]; do
  kill -0 "$server" 2>/dev/null || { wait "$server"; exit 1; }
  read -rt 0.05 <> <(:) || true
done
for ((id = 0; id < clients; ++id)); do
  $fedctl client --id "$id" --server "127.0.0.1:$(<"$work/port")" --allow-path runs/backbone \
    --threads 1 --quiet &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
pids=()

python3 - runs/quickstart/journal.jsonl runs/backbone/model.safetensors $clients <<'PY'
import json, os, sys
lines = list(map(json.loads, open(sys.argv[1])))
rounds = [r for r in lines if r["event"] == "round"]
update = 4 * lines[0]["parameters"]
model, clients = os.path.getsize(sys.argv[2]), int(sys.argv[3])
first, last = rounds[0], rounds[-1]
per_client = (last["bytes_up"] + last["bytes_down"]) / clients
print(f"accuracy {100 * first['accuracy']:.1f} % -> {100 * last['accuracy']:.1f} % in {last['round']} rounds")
print(f"{per_client / 1000:.1f} kB a round and client, both ways: the same LoRA in float32 is {2 * update / 1000:.1f} kB, "
      f"{2 * update / per_client:.1f} times more, the whole model {2 * model / 1000:.1f} kB, {2 * model / per_client:.0f} times more")
PY
