"""Rate against distortion from rate_bench's CSV: an SVG, the Pareto front, and how far auto is from it.
   rate_distortion.py NAME FILE.csv FILE.svg
Status 1 if at some chain's distortion auto needs more than 3 % more bits."""
import csv
import math
import sys

name, table, picture = sys.argv[1:]
points = [(row["chain"], float(row["bits"]), float(row["lost"])) for row in csv.DictReader(open(table))]
auto = sorted((lost, bits) for chain, bits, lost in points if chain.startswith("auto"))
others = [point for point in points if not point[0].startswith("auto")]


def bits_of_auto(lost):
    """Between its measured points, linear in the logarithms; None outside."""
    for (low, more), (high, fewer) in zip(auto, auto[1:]):
        if low <= lost <= high:
            share = math.log(lost / low) / math.log(high / low)
            return math.exp(math.log(more) + share * math.log(fewer / more))
    return None


front = [p for p in points if not any(q[1] <= p[1] and q[2] <= p[2] and q != p for q in points)]
print(f"{name}: the Pareto front of {len(points)} points")
for chain, bits, lost in sorted(front, key=lambda p: p[1]):
    print(f"| {chain} | {bits:.4f} | {lost:.4g} |")
excess = sorted(((bits_of_auto(lost) / bits - 1, chain) for chain, bits, lost in others if bits_of_auto(lost)), reverse=True)
print("auto's bits at the same distortion, next to the chains nearest to it: " +
      ", ".join(f"{chain} {100 * more:+.1f} %" for more, chain in excess[:5]))

WIDTH, HEIGHT, LEFT, BOTTOM = 900, 600, 70, 50
kinds = [("auto", "#000000"), ("topk", "#d62728"), ("eden", "#1f77b4"), ("drive", "#1f77b4"), ("quantize", "#2ca02c"), ("kmeans", "#9467bd"),
         ("qsgd", "#8c564b"), ("rotate", "#17becf"), ("threshold", "#e377c2")]


def x(bits):
    return LEFT + (math.log10(bits) + 2) / 3.3 * (WIDTH - LEFT - 20)


def y(lost):
    return 20 + -math.log10(max(min(lost, 1), 1e-6)) / 6 * (HEIGHT - 20 - BOTTOM)


svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
       '<rect width="100%" height="100%" fill="white"/>',
       f'<text x="{WIDTH // 2}" y="14" text-anchor="middle">{name}: lost share of |x|² against bits a value</text>']
for bits in (0.01, 0.03, 0.1, 0.3, 1, 3, 10):
    svg.append(f'<path d="M{x(bits):.1f} 20V{HEIGHT - BOTTOM}" stroke="#ddd"/>'
               f'<text x="{x(bits):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{bits}</text>')
for power in range(7):
    svg.append(f'<path d="M{LEFT} {y(10.0 ** -power):.1f}H{WIDTH - 20}" stroke="#ddd"/>'
               f'<text x="{LEFT - 6}" y="{y(10.0 ** -power) + 4:.1f}" text-anchor="end">1e-{power}</text>')
line = " ".join(f"{x(bits):.1f},{y(lost):.1f}" for lost, bits in auto)
svg.append(f'<polyline points="{line}" fill="none" stroke="black"/>')
for chain, bits, lost in points:
    colour = next((colour for kind, colour in kinds if chain.startswith(kind)), "#999")
    if bits <= 20 and lost <= 1:
        svg.append(f'<circle cx="{x(bits):.1f}" cy="{y(lost):.1f}" r="3" fill="{colour}"><title>{chain}: {bits:.3f} bits, {lost:.3g}</title></circle>')
for i, (kind, colour) in enumerate(kinds):
    svg.append(f'<text x="{LEFT + 12}" y="{HEIGHT - BOTTOM - 12 - 15 * i}" fill="{colour}">{kind}</text>')
svg.append("</svg>")
with open(picture, "w") as out:
    out.write("\n".join(svg) + "\n")
sys.exit(excess[0][0] > 0.03)
