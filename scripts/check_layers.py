#!/usr/bin/env python3
"""Checks every #include "room/..." below lib/ against the floor plan of docs/architecture.md."""
import pathlib
import re
import sys

DIRECT = {
    "base": [], "math": ["base"], "config": ["base"], "journal": ["base"], "wire": ["base"],
    "codec": ["base", "math", "config"], "aggregate": ["base", "math", "config"],
    "data": ["base", "config"], "talk": ["wire", "codec", "journal"], "net": ["talk"],
    "learn": ["data", "math"], "secure": ["base"], "methods": ["talk", "secure", "aggregate", "learn"],
    "run": ["methods", "net"],
}
# Third-party headers and the only places that may include them.
WALLS = [
    (re.compile(r"<(torch|ATen|c10)/"), ("lib/learn/torch/", "tests/learn/torch/")),
    (re.compile(r"<yaml-cpp"), ("lib/config/",)),
    (re.compile(r"<zstd"), ("lib/codec/zstd.cpp",)),
    (re.compile(r"<boost/asio"), ("lib/talk/", "lib/net/", "lib/methods/", "lib/run/")),
    (re.compile(r"<openssl/"), ("lib/net/",)),
    (re.compile(r"<sodium"), ("lib/base/", "lib/secure/")),
    (re.compile(r"<(sys/socket|netinet|arpa)"), ("lib/net/",)),
]


def reachable(room):
    seen, todo = {room}, [room]
    while todo:
        for dep in DIRECT[todo.pop()]:
            if dep not in seen:
                seen.add(dep)
                todo.append(dep)
    return seen


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    faults = []
    for path in sorted((root / "lib").rglob("*.[hc]pp")):
        name = path.relative_to(root).as_posix()
        room = name.split("/")[1]
        allowed = reachable(room)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            include = re.match(r'\s*#include ["<]([^">]+)[">]', line)
            if not include:
                continue
            target = include.group(1)
            if '"' in line and target.split("/")[0] not in allowed:
                faults.append(f"{name}:{number}: room {room} may not include {target}")
            if target.startswith("../"):
                faults.append(f"{name}:{number}: includes start at lib/, not ../")
            if name.endswith(".hpp") and target.startswith(("nlohmann/json.hpp", "yaml-cpp")):
                faults.append(f"{name}:{number}: {target} in a public header")
            for pattern, places in WALLS:
                if pattern.search(line) and not name.startswith(places):
                    faults.append(f"{name}:{number}: {target} may be included only in {', '.join(places)}")
    print("\n".join(faults) if faults else "layers: every include follows the floor plan")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
