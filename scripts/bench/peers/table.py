"""Markdown tables from peers.sh's results: medians over the turns, and how many times better fedctl is (x, with the least and
the most over the turns; below 1 fedctl loses, in bold).

    table.py results.jsonl"""
import collections
import json
import statistics
import sys

TITLES = {
    "a": "Rounds over TCP without training (loopback; server and clients on a core each)",
    "superlink": "The same beside Flower's current engine (SuperLink; bytes of Flower with packet headers)",
    "b": "1,000 clients over TCP, 4 KiB",
    "sim": "Simulation on both cores",
    "pfl": "Simulation on one core",
    "flare": "8 clients, 1 MiB (fedctl over TCP, FLARE in its simulator)",
    "c": "LoRA on MiniLM, batches of 16 (banking77: 10 of 20 clients, 5 steps, both cores; 32 tokens: 4 of 20, 2 steps, "
         "one core)",
    "step": "Training step: MiniLM, LoRA rank 8 on query and value, 16 texts, one thread (CPU: ms a text)",
}
# key: title, whether less is better
METRICS = {
    "seconds_a_round": ("s a round", True),
    "updates_a_second": ("client updates/s", False),
    "samples_a_second": ("texts/s", False),
    "cpu_ms": ("CPU, ms a client and round", True),
    "overhead_ms": ("of these over the bare loop", True),
    "server_cpu_ms": ("server CPU, ms a client and round", True),
    "clients_cpu_ms": ("clients' CPU, ms", True),
    "rss_mib": ("memory at the peak, MiB", True),
    "rss_idle_mib": ("idle, MiB", True),
    "start_s": ("start to first round, s", True),
    "up": ("up over ideal", True),
    "down": ("down over ideal", True),
}
HIDDEN = {  # by row: what says the same as another column, or nothing
    "sim": {"seconds_a_round", "samples_a_second"},
    "pfl": {"seconds_a_round", "samples_a_second"},
    "flare": {"updates_a_second", "server_cpu_ms", "clients_cpu_ms", "rss_idle_mib"},
    "c": {"seconds_a_round", "samples_a_second"},
    "step": {"seconds_a_round", "updates_a_second"},
}


def size(count):
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"


def name_of(line):
    words = {"lora-16x32": "rows of 32 tokens", "lora": "banking77's texts", "exchange": "no training, 4 KiB",
             "mlp": "784-128-10, 50 examples in batches of 10", "linear": "64-10, one batch of 10"}
    parts = []
    if line["work"] in ("rounds", "exchange") and "payload_bytes" in line:
        parts = [f"{line['clients']:,} clients", size(line["payload_bytes"])]
        if line["cohort"] != line["clients"]:
            parts.insert(1, f"{line['cohort']:,} a round")
    else:
        parts = [words.get(line["work"], line["work"])]
    return ", ".join(parts + (["TLS"] if line.get("tls") else []))


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(key, ours, theirs):
    """theirs: {turn: value}; ours: the same of fedctl, or None in its own line."""
    if not theirs:
        return ""
    values, less_is_better = sorted(theirs.values()), METRICS[key][1]
    if key in ("up", "down"):
        return f"{statistics.median(values):.4f}"
    middle = number(statistics.median(values))
    if ours is None:
        return middle if len(values) == 1 else f"{middle} ({number(values[0])}-{number(values[-1])})"
    ratios = sorted((theirs[turn] / ours[turn]) if less_is_better else (ours[turn] / theirs[turn])
                    for turn in theirs if ours.get(turn) and theirs[turn])
    if not ratios:
        return middle
    ratio = statistics.median(ratios)
    text = f"{number(ratio)} x" + (f" ({number(ratios[0])}-{number(ratios[-1])})" if len(ratios) > 1 else "")
    return f"{middle}; " + (f"**{text}**" if ratio < 1 else text)


def add_overheads(lines):
    """CPU that a client costs beyond the same training in a bare loop of the same engine, in the same turn."""
    loops = {(line["work"], line["turn"], line["peer"]): line["cpu_ms"] for line in lines if "bare" in line["peer"]}
    for line in lines:
        engine = "fedctl bare loop" if line["peer"].startswith("fedctl") else "bare PyTorch loop"
        loop = loops.get((line["work"], line["turn"], engine))
        if loop and line["peer"] != engine:
            line["overhead_ms"] = max(line["cpu_ms"] - loop, 0.0)


def table(row, lines):
    if row == "pfl":
        add_overheads(lines)
    groups = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(dict)))
    for line in lines:
        if row == "step":  # one client alone is what this row is about
            line["peer"] = line["peer"].replace(" bare loop", "")
        if row == "flare":  # all processes, as FLARE's simulator has them
            line["rss_mib"] += line.get("clients_rss_mib", 0)
        if "payload_bytes" in line:
            for way in ("up", "down"):
                if f"bytes_{way}" in line:
                    line[way] = line[f"bytes_{way}"] / line["payload_bytes"]
        for key in METRICS:
            if key in line and key not in HIDDEN.get(row, ()):
                groups[name_of(line)][line["peer"]][key][line["turn"]] = line[key]
    shown = [key for key in METRICS if any(key in peer for group in groups.values() for peer in group.values())]
    print(f"\n### {TITLES.get(row, row)}\n")
    print("| work | program | " + " | ".join(METRICS[key][0] for key in shown) + " |")
    print("|---|---|" + "---:|" * len(shown))
    for work, peers in groups.items():
        reference = "fedctl" if "fedctl" in peers else None
        for peer, metrics in peers.items():
            ours = peers[reference] if reference and not peer.startswith("fedctl") else collections.defaultdict(lambda: None)
            print(f"| {work} | {peer} | " + " | ".join(cell(key, ours[key], metrics[key]) for key in shown) + " |")


with open(sys.argv[1]) as file:
    results = [json.loads(text) for text in file]
for row in TITLES:
    if lines := [line for line in results if line["row"] == row]:
        table(row, lines)
versions = sorted({f"{line['peer']} {line['version']}" for line in results
                   if not any(word in line["peer"] for word in ("bare", ",", "bfloat16"))})
loads = [line["load"] for line in results if "load" in line]
print(f"\nLoad average behind each run: {number(statistics.median(loads))} in the middle, {number(max(loads))} at most."
      if loads else "")
print("\nVersions: " + ", ".join(versions) + ".")
