#!/usr/bin/env python3
"""Differences seed by seed, with the 95 % interval of their mean: Student's t with n - 1 degrees of freedom, as `fedctl sweep` has it.
   scripts/acceptance/codecs-accuracy.sh ... | scripts/acceptance/intervals.py     rows of a table from rows of runs
   scripts/acceptance/intervals.py docs/results.md [--check]                       rewrites (or compares) the column "to float32" of every
                                                                                   table that holds its accuracies by seed"""
import math
import re
import statistics
import sys

# Two-sided, 95 %, by degrees of freedom.
T = [math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093]


def interval(differences):
    """"+0.4 ± 1.2", or "+0.4" of one seed."""
    mean = statistics.mean(differences)
    text = f"{mean:+.1f}".replace("-0.0", "+0.0")
    if len(differences) < 2:
        return text
    return f"{text} ± {T[len(differences) - 1] * statistics.stdev(differences) / math.sqrt(len(differences)):.1f}"


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def of_runs(lines):
    """Runs are | task | ... | setting | seed | accuracy % | loss | MB up | MB down | MB of handshakes |; the first setting of a task is what others are compared with."""
    groups = {}
    for line in lines:
        if not line.startswith("|"):
            continue
        *key, seed, accuracy, loss, up, down, _ = cells_of(line)
        groups.setdefault(tuple(key), {})[int(seed)] = (float(accuracy.split()[0]), float(loss), float(up), float(down))
    first = {}
    for key, runs in groups.items():
        base = groups[first.setdefault(key[:-1], key)]
        both = sorted(set(runs) & set(base))
        accuracy = statistics.mean(run[0] for run in runs.values())
        rest = [statistics.mean(run[i] for run in runs.values()) for i in (1, 2, 3)]
        print("| " + " | ".join([*key, f"{accuracy:.1f} %", " / ".join(f"{runs[seed][0]:.1f}" for seed in sorted(runs)),
                                 "" if runs is base else interval([runs[seed][0] - base[seed][0] for seed in both]), f"{rest[0]:.3f}", f"{rest[1]:.3f}", f"{rest[2]:.3f}"]) + " |")


def of_tables(text):
    """The text with the column "to float32" of its tables computed anew."""
    lines, base, group, columns = text.splitlines(), None, None, None
    for at, line in enumerate(lines):
        if not line.startswith("|"):
            columns = None
            continue
        cells = cells_of(line)
        if columns is None:
            seeds = [i for i, cell in enumerate(cells) if cell.startswith("seeds")]
            to = [i for i, cell in enumerate(cells) if cell.startswith("to float32")]
            columns = (seeds[0], to[0]) if seeds and to else (None, None)
            base = None
        elif columns[0] is not None and re.fullmatch(r"[0-9./ ]+", cells[columns[0]]):
            values = [float(value) for value in cells[columns[0]].split("/")]
            name = next(i for i, cell in enumerate(cells) if re.fullmatch(r"[0-9.]+ %", cell) and i < columns[0]) - 1
            if base is None or group != cells[:name]:
                base, group = values, cells[:name]
            cells[columns[1]] = "" if values is base else interval([a - b for a, b in zip(values, base)])
            lines[at] = ("| " + " | ".join(cells) + " |").replace("|  |", "| |")
    return "\n".join(lines) + "\n"


if len(sys.argv) == 1:
    of_runs(sys.stdin)
else:
    old = open(sys.argv[1]).read()
    new = of_tables(old)
    if "--check" in sys.argv:
        sys.exit(0 if new == old else f"{sys.argv[1]}: other intervals than those of its seeds")
    open(sys.argv[1], "w").write(new)
