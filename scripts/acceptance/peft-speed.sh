#!/usr/bin/env bash
# Local training speed on banking77 + MiniLM, LoRA rank 8 on query and value, batches of 16, one thread: PyTorch + PEFT's usual
# padded loop against fedctl, in float32 and with a bfloat16 backbone, taking turns. Needs ../shared/data and a Python with torch,
# transformers and peft (scripts/golden/setup.sh makes one); skips without.
#   FEDCTL_PYTHON=/tmp/venv-hf/bin/python scripts/acceptance/peft-speed.sh [turns]
set -euo pipefail
cd "$(dirname "$0")/../.."
turns=${1:-3}
python=${FEDCTL_PYTHON:-python3}
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
[[ -d ../shared/data ]] || { echo "skipped: ../shared/data is absent"; exit 0; }
"$python" -c 'import torch, transformers, peft' 2>/dev/null || { echo "skipped: $python has no torch, transformers, peft"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ours() {  # name, further overrides
  build/release/bin/fedctl simulate --config configs/banking77-lora.yaml --run-dir "$work/run" --fresh --quiet --threads 1 \
    --set clients.count=1 --set data.partition='{kind: iid}' --set rounds=1 --set train='{steps: 120, batch_size: 16, optimizer: {kind: adamw, lr: 0.001}}' \
    --set data.path=../shared/data/banking77/train.csv --set data.holdout=0.001 "${@:2}" --format json |
    python3 -c 'import json, sys; line = [json.loads(l) for l in sys.stdin][-1]; print(sys.argv[1], 120 * 16 / (line["round_ms"] - line["evaluate_ms"]) * 1e3)' "$1"
}
for ((turn = 0; turn < turns; ++turn)); do
  "$python" scripts/acceptance/peft_speed.py
  ours fedctl
  ours fedctl-bf16 --set model.backbone_dtype=bfloat16
done | tee "$work/speeds"
python3 - "$work/speeds" <<'PY'
import collections, sys
best = collections.defaultdict(float)
for line in open(sys.argv[1]):
    name, value = line.split()
    best[name] = max(best[name], float(value))
base = best["peft"]
for name, value in best.items():
    print(f"{name:12} {value:7.1f} samples/s, {value / base:.2f} x PyTorch + PEFT")
sys.exit(best["fedctl-bf16"] < 2.5 * base)
PY
