#!/usr/bin/env python3
"""Ratios from the benchmark's lines.

compare.py RESULT        dbosd beside the best peer and the floors, for each durability and setting
compare.py OLD NEW       each figure beside the same one of an earlier result

A RESULT is a folder of bench/results, or its vote.jsonl; of a folder, full.jsonl is compared, too. Nothing is asserted: the exit status says
only whether the files could be read.
"""

import json
import os
import statistics
import sys

# What a reply means: "sync" = the vote is on disk. Systems by the beginning of their name.
CLASSES = {
    "sync": {
        "dbosd": "durability=sync",
        "postgresql": "synchronous_commit=on",
        "redis": "appendfsync=always",
        "tarantool": "wal_mode=fsync",
    },
    "async": {
        "dbosd": "durability=async",
        "postgresql": "synchronous_commit=off",
        "redis": "appendfsync=everysec",
        "tarantool": "wal_mode=write",
    },
}
# What throughput must be, as a multiple of the best peer's; 1 x 1 is judged by its p50.
RATIOS = {
    "sync": {(32, 1): 2.0, (32, 16): 1.3, (8, 128): 1.3},
    "async": {(32, 1): 1.5, (32, 16): 1.3, (8, 128): 1.3},
}
OVER_FLOOR_US = {"sync": 25, "async": 15}  # what 1 x 1 may need beside the floors
TOLERANCE = 1.05  # of a comparison of p50
TIE = 0.9  # a peer with more than this of the null server's throughput


def load(path):
    """The measured lines of a result, by what was measured; the medians of its rounds."""
    if os.path.isdir(path):
        path = os.path.join(path, "vote.jsonl")
    rounds = {}
    with open(path, encoding="utf-8") as file:
        for text in file:
            if not text.startswith("{"):
                continue
            line = json.loads(text)
            if "tps" not in line:
                print(f"without a figure: {text.strip()}", file=sys.stderr)
                continue
            what = ("system", "workload", "durability", "clients", "pipeline")
            rounds.setdefault(tuple(line.get(name, "") for name in what), []).append(line)
    return {key: {**found[-1], **medians(found)} for key, found in rounds.items()}


def medians(lines):
    names = [name for name in ("tps", "p50_us", "p99_us") if all(name in line for line in lines)]
    return {name: statistics.median(line[name] for line in lines) for name in names}


def load_full(path):
    """The medians of full.jsonl's runs, where the result has them, in the form of the lines of load()."""
    path = os.path.join(path, "full.jsonl")
    runs = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                if "tps" in line and "system" not in line:
                    names = list(line)  # the tags come before the load
                    tags = " ".join(str(line[name]) for name in names[: names.index("connections")])
                    load = line["depth"] if "depth" in line else "open"
                    runs.setdefault(("dbosd", tags, "", line["connections"], load), []).append(line)
    return {key: medians(found) for key, found in runs.items()}


def print_table(head, rows):
    """Columns as wide as needed; the first three to the left."""
    cells = [head] + [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        text = [
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        print("  ".join(text).rstrip())


def whole(number):
    return None if number is None else f"{number:,.0f}"


def tenth(number):
    return None if number is None else f"{number:,.1f}"


def is_vote(line):
    return line["workload"].startswith("vote") and "hot" not in line["workload"]


def of_class(lines, durability, combo):
    """dbosd's line and the peers' lines of a durability and a setting."""
    own, peers = None, []
    for line in lines:
        if not is_vote(line) or (line["clients"], line["pipeline"]) != combo:
            continue
        for system, setting in CLASSES[durability].items():
            if line["system"].startswith(system) and setting in line["durability"]:
                if system == "dbosd":
                    own = line
                else:
                    peers.append(line)
    return own, peers


def floors_of(lines, durability, combo):
    """The null server's line at this setting, and the p50 that no request is served below: the
    null server's and, where a reply waits for the disk, the raw sync's (None: not measured)."""
    raw, null = None, None
    for line in lines:
        if line["system"] == "raw-sync":
            raw = line["p50_us"]
        elif line["system"] == "null-server" and (line["clients"], line["pipeline"]) == combo:
            null = line
    if null is None or (durability == "sync" and raw is None):
        return null, None
    return null, null["p50_us"] + (raw if durability == "sync" else 0)


def verdict(durability, combo, own, peers, null, floor):
    """What the bar is, and whether it is met; None where there is none or a part is missing."""
    if combo == (1, 1):
        limits = [] if floor is None else [floor + OVER_FLOOR_US[durability]]
        if durability == "sync":
            limits += [line["p50_us"] for line in peers]
        if not limits:
            return None
        met = own["p50_us"] <= min(limits) * TOLERANCE
        return f"p50 <= {min(limits):,.1f}: {'met' if met else 'missed'}"
    wanted = RATIOS[durability].get(combo)
    if wanted is None or not peers:
        return None
    best = max(line["tps"] for line in peers)
    needed = wanted * best
    if durability == "async" and combo == (32, 1) and null is not None:
        needed = min(needed, 0.75 * null["tps"])
    met = "met" if own["tps"] >= needed else "missed"
    if met == "missed" and null is not None and best > TIE * null["tps"]:
        met = "missed (tie: the peer is at the null server)"
    return f"tps >= {needed:,.0f}: {met}"


def show_ratios(path):
    lines = list(load(path).values())
    combos = sorted({(line["clients"], line["pipeline"]) for line in lines if is_vote(line)})
    combos.sort(key=lambda combo: combo[0] * combo[1])
    rows = []
    for durability in CLASSES:
        for combo in combos:
            own, peers = of_class(lines, durability, combo)
            if own is None:
                continue
            null, floor = floors_of(lines, durability, combo)
            best = max(peers, key=lambda line: line["tps"], default=None)
            quickest = min(peers, key=lambda line: line["p50_us"], default=None)
            rows.append(
                [
                    durability,
                    f"{combo[0]} x {combo[1]}",
                    None if best is None else f"{best['system']} {best['workload']}",
                    whole(own["tps"]),
                    None if best is None else whole(best["tps"]),
                    None if best is None else f"{own['tps'] / best['tps']:.2f}",
                    None if null is None else whole(null["tps"]),
                    tenth(own["p50_us"]),
                    None if quickest is None else tenth(quickest["p50_us"]),
                    tenth(floor),
                    verdict(durability, combo, own, peers, null, floor),
                ]
            )
    print_table(
        [
            "class",
            "conns x depth",
            "best peer",
            "dbosd/s",
            "peer/s",
            "ratio",
            "null/s",
            "dbosd p50",
            "least peer p50",
            "floors p50",
            "bar",
        ],
        rows,
    )
    systems = {line["system"] for line in lines if is_vote(line)} - {"dbosd", "null-server"}
    print(f"peers measured: {', '.join(sorted(systems)) or 'none'}")
    raw = [line for line in lines if line["system"] == "raw-sync"]
    for line in raw:
        print(f"raw sync: p50 {line['p50_us']:,.1f} us, p99 {line['p99_us']:,.1f} us")
    print("us everywhere; floors p50 = null server, and raw sync where a reply waits for the disk")


def show_changes(old_path, new_path):
    old, new = load(old_path) | load_full(old_path), load(new_path) | load_full(new_path)
    rows = []
    for key in list(old) + [key for key in new if key not in old]:
        before, after = old.get(key), new.get(key)
        both = before is not None and after is not None
        rows.append(
            [
                f"{key[0]} {key[1]}",
                key[2],
                f"{key[3]} x {key[4]}",
                before and whole(before["tps"]),
                after and whole(after["tps"]),
                f"{after['tps'] / before['tps']:.2f}" if both and before["tps"] else None,
                before and tenth(before["p50_us"]),
                after and tenth(after["p50_us"]),
                f"{after['p50_us'] / before['p50_us']:.2f}" if both and before["p50_us"] else None,
            ]
        )
    print_table(
        ["what", "durability", "conns x depth", "old/s", "new/s", "ratio", "old p50", "new p50", "ratio"],
        rows,
    )


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        if len(sys.argv) == 2:
            show_ratios(sys.argv[1])
        else:
            show_changes(sys.argv[1], sys.argv[2])
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"compare.py: {error!r}")


if __name__ == "__main__":
    main()
