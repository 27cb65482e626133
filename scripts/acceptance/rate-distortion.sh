#!/usr/bin/env bash
# Bits a value against the lost share of the squared norm on real LoRA updates, for every codec: banking77 (MiniLM) and Shakespeare's
# roles (stories260K), the updates of rounds 1, 3 and 5. Writes docs/figures/rate-*.{csv,svg}; fails unless auto is on the front or
# within 3 % of it. THREADS: worker threads. UPDATES: keep the updates in this folder, and take them from there.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ -d ../shared/data ]] || { echo "skipped: ../shared/data is absent"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
updates=${UPDATES:-$work}
mkdir -p docs/figures
status=0
for set in shakespeare banking77; do
  case $set in
    banking77) config=(--config configs/banking77-lora.yaml --set model.backbone_dtype=bfloat16) ;;
    shakespeare) config=(--config configs/shakespeare-lora-head.yaml) ;;
  esac
  [[ -d $updates/$set ]] || build/release/bin/fedctl simulate "${config[@]}" --set rounds=5 --set codec.up=[] --set codec.down=[] \
    --set evaluate.every=100 ${THREADS:+--threads "$THREADS"} --run-dir "$work/run-$set" --save-updates "$updates/$set" --quiet >/dev/null
  build/release/tests/bench/rate_bench "$updates/$set"/exchange-00000[135]-*.safetensors >"docs/figures/rate-$set.csv"
  python3 scripts/acceptance/rate_distortion.py "$set" "docs/figures/rate-$set.csv" "docs/figures/rate-$set.svg" || status=1
done
exit $status
