#!/usr/bin/env bash
# A throw-away virtual environment with PyTorch, transformers and peft (6 GB), for the scripts of this folder and for
# tests/e2e/export_test.py:
#   scripts/golden/setup.sh /tmp/venv-hf
#   OMP_NUM_THREADS=1 /tmp/venv-hf/bin/python scripts/golden/models.py      # writes tests/golden/models/
#   build/release/tests/learn_torch_test "[.projections]"                   # adds VeRA's frozen matrices
#   OMP_NUM_THREADS=1 /tmp/venv-hf/bin/python scripts/golden/adapters.py    # adds dora, ia3 and vera there
#   OMP_NUM_THREADS=1 /tmp/venv-hf/bin/python scripts/golden/families.py    # adds mlp, cnn and kwt there
#   OMP_NUM_THREADS=1 /tmp/venv-hf/bin/python scripts/golden/peft_check.py  # compares a build with peft
#   FEDCTL_PYTHON=/tmp/venv-hf/bin/python python3 tests/e2e/export_test.py
set -euo pipefail
folder=${1:?usage: setup.sh FOLDER}
python3 -m venv "$folder"
"$folder/bin/pip" install torch transformers peft safetensors tokenizers
