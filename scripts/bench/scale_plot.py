#!/usr/bin/env python3
"""Server memory and time against the number of clients and the size of an update: runs scale.py over a grid, writes a CSV and two plots.

    scripts/bench/scale_plot.py docs/figures/scale-server          # .csv, -memory.svg, -cpu.svg; about five minutes
    scripts/bench/scale_plot.py --draw docs/figures/scale-server   # the plots again from the CSV"""
import csv
import math
import pathlib
import sys
import tempfile

import scale

VALUES = (1024, 262144, 2097152)  # 4 KiB, 1 MiB, 8 MiB
CLIENTS = (2, 16, 64, 256, 1024)
COLOURS = ("#1b6ca8", "#c8553d", "#588157")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 300, 64, 44, 30, 90


def run(clients, values):
    rounds = 3 if clients * values < 2**28 else 1
    given = scale.options(["--clients", str(clients), "--values", str(values), "--rounds", str(rounds + 1), "--swarm", "2" if clients > 64 else "1"])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = scale.measure(given, pathlib.Path(folder))
    assert found["status"] == 0, found
    return {"clients": clients, "update_bytes": 4 * values, "peak_mib": round(found["peak_kib"] / 1024, 1), "cpu_ms": round(found["cpu_ms"], 3),
            "round_s": round(found["round_s"], 4)}


def draw(rows, key, title, low, high):
    """Both axes logarithmic, a line for each size of update."""
    def x(clients):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(clients / CLIENTS[0]) / math.log(CLIENTS[-1] / CLIENTS[0])

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * math.log(max(value, low) / low) / math.log(high / low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT}" y="18" font-size="12">{title}</text>']
    tick = low
    while tick <= high * 1.001:
        out.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
        tick *= 10
    for clients in CLIENTS:
        out.append(f'<text x="{x(clients):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{clients:,}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">clients, all of them in every round</text>')
    for colour, values in zip(COLOURS, VALUES):
        line = [(x(int(r["clients"])), y(float(r[key]))) for r in rows if int(r["update_bytes"]) == 4 * values]
        size = "4 KiB" if values == 1024 else f"{values >> 18} MiB"
        out.append(f'<path d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in line)}" fill="none" stroke="{colour}" stroke-width="2"/>'
                   + "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in line)
                   + f'<text x="{line[-1][0] + 8:.1f}" y="{line[-1][1] + 4:.1f}" fill="{colour}">{size}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    words = [word for word in sys.argv[1:] if word != "--draw"]
    if len(words) != 1:
        sys.exit(__doc__)
    path = pathlib.Path(words[0] + ".csv")
    if "--draw" not in sys.argv:
        rows = []
        for values in VALUES:
            for clients in CLIENTS:
                rows.append(run(clients, values))
                print(rows[-1], flush=True)
        with path.open("w", newline="") as out:
            writer = csv.DictWriter(out, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    rows = list(csv.DictReader(path.open()))
    pathlib.Path(words[0] + "-memory.svg").write_text(draw(rows, "peak_mib", "server, peak memory, MiB", 10, 1000))
    pathlib.Path(words[0] + "-cpu.svg").write_text(draw(rows, "cpu_ms", "server, CPU a client and round, ms", 0.01, 100))


if __name__ == "__main__":
    main()
