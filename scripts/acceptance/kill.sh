#!/usr/bin/env bash
# Kills server and clients with SIGKILL at N seeded random instants (default 100) over TCP, every second run with TLS; every run must go on to the digests, answers
# and payload bytes of the undisturbed one, and no client trains again for a server that was killed. CI runs 12.
#   scripts/acceptance/kill.sh [N] [SEED]
set -euo pipefail
cd "$(dirname "$0")/../.."
FEDCTL=build/release/bin/fedctl KILLS=${1:-100} SEED=${2:-1} python3 -m unittest discover -v -s tests/e2e -p kill_test.py
