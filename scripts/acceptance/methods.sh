#!/usr/bin/env bash
# The figures of the sheets' reference simulations beside ours, for the methods that are built (docs/methods/). Needs a release build.
#   scripts/acceptance/methods.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=build/release/tests/methods_test
# figures "test case": what the test prints, on one line.
figures() { "$tests" "$1" | sed -n '/warning:/,/^$/p' | grep -v 'warning:' | tr -s ' \n' ' ' | sed -E 's/- /-/g; s/([0-9])\. ([0-9])/\1.\2/g'; }
show() { printf '%s\n  sheet: %s\n  here: %s\n' "$1" "$2" "$(figures "$3")"; }

show "scaffold, scallion, scafcom: distance to the optimum (float64 there, float32 here)" \
  "fedavg 2.7, scaffold 8e-15, scallion 5e-15, 7e-15, a=1 diverges, scafcom 4e-15, 1e-14, 2e-14" "unequal clients: FedAvg stalls*"
show "econtrol, simulation A: distance (float64 there, float32 here), top-1 of 40, rate 0.005" \
  "eta = 0 7e-14, delta / 10 2e-13, delta 8e-14, delta / 400 7e-3, 1 diverges; ef14 5.4" "econtrol: simulation A*"
show "econtrol, simulation B: squared distance with noise, top-4 of 40" \
  "no codec 0.034, eta = 0 0.29, delta / 10 0.095, delta 0.043" "econtrol: simulation B*"
show "decomfl, hiso: rounds to a tenth of the loss" "decomfl 204, hiso 274, oracle 21" "hiso: a curvature*"
show "meerkat: rounds to a tenth of the loss" "right mask 24, dense 2260, random never" "meerkat: the right ten*"
show "streaming_diloco with 4-bit differences: distance" "plain 0.2 to 0.3, ef14 0.2 to 0.4, ef21 1e-15" "streaming_diloco: 4-bit*"
show "decoupled_diloco: distance over the norm at lr 1 and 0.3" "mean: diloco's, rda 0.27 and 0.19, with the switch 1e-12" "decoupled_diloco: a step of fixed*"
show "sparseloco: distance over the norm" "dense 2e-16, none 0.73, beta 1 1.43, lr 0.3 (beta 0.95) 0.31, ef21 1.5e-16" "sparseloco: on unequal*"
show "dadao, ten clients: graph, L / mu: time, gradients, exchanges" \
  "complete 10: 289, 2807, 1814; 100: 883, 8869, 5706; ring 10: 258, 2550, 3853; 100: 847, 8481, 12869; star 10: 289, 2846, 2582; 100: 931, 9472, 8506" \
  "dadao: the sheet's table*"
show "fedbuff against fedavg with ten times slower clients" "at least 3 times less (the issue)" "fedbuff: ten times slower*"
echo "fedkseed, just_one_byte, ferret, co2, sfprompt, secure aggregation: bounds of the sheets, checked by these tests"
"$tests" "[seeds],[ferret],[co2],[secure],[sfprompt]" | tail -2
