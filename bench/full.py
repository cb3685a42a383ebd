#!/usr/bin/env python3
"""Lines of full.sh's results.

  full.py keep FILE [NAME=VALUE...] < LINE
                                  appends the run's line, with fields added, and says what it was
  full.py long FILE NAME=VALUE... < LINE
                                  appends a line of a long run: vload's, with its throughput until the times given
  full.py field EXPRESSION < LINE a Python expression over the line's fields
  full.py note NAME=VALUE...      a line
  full.py lag FILE < LINE         of an open loop's run and dbos.archive's lag in each second: NAME=VALUE...
  full.py backlog FILE < LINE     of a closed loop's run, the archiver stopped meanwhile: NAME=VALUE...
  full.py waits NAME=VALUE... < ROWS
                                  a line with the buckets of dbos.histogram: name|to_us|count in each row
  full.py summary FILE            tables of all lines of full.jsonl, and the bars: met or missed
"""
import json
import statistics
import sys


def number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def fields(words):
    return {name: number(value) for name, value in (word.split("=", 1) for word in words)}


def show(line):
    tags = [f"{name} {value}" for name, value in line.items() if name not in NO_TAGS]
    load = f"{line['connections']} x {line['depth']}" if "depth" in line else f"{line['connections']}, {line['rate']:,}/s"
    text = f"{', '.join(tags)}, {load}: {line['tps']:,.0f}/s, p50 {line['p50_us']:,.0f} us, p99 {line['p99_us']:,.0f} us"
    if "node_cpu_us" in line:
        text += f", {line['node_cpu_us']} us of the node's processors each"
    if line.get("others", 0) > QUIET:
        text += f", others had {100 * line['others']:.0f} % of the machine"
    for name in ("errors", "refused", "late", "unanswered", "lost"):
        if line[name]:
            text += f", {name} {line[name]}"
    print(text)


# What every line of the load generator has.
NO_TAGS = {
    "connections", "depth", "rate", "seconds", "tps", "p50_us", "p99_us", "p999_us", "max_us", "arrivals",
    "ok", "late", "unanswered", "lost", "connect_s", "errors", "refused", "per_second", "calls",
    "node_cpu_us", "others",
}  # fmt: skip

# Under overload a server may refuse; each of these is a documented answer to it (docs/limits.md).
DOCUMENTED = {"53300", "57014", "53200", "53400", "54000"}


# docs/limits.md: a connection, its buffers, a prepared statement and a small request under way
CONNECTION_KB = 32
POOLS_MB = 16  # what is kept for reuse, whoever uses it

QUIET = 0.08  # of the machine's processors: what others may have used during a run


def median(lines, name="tps"):
    return statistics.median(line[name] for line in lines)


def groups(lines, *names):
    """{(value of each name...): lines}, in the order of their values"""
    found = {}
    for line in lines:
        found.setdefault(tuple(line[name] for name in names), []).append(line)
    return dict(sorted(found.items()))


def table(head, rows):
    rows = [head] + [[cell if isinstance(cell, str) else f"{cell:,.0f}" for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths)))


def bar(text, met):
    print(f"  {text}: {'met' if met else 'MISSED'}")


def figures(lines):
    """The cells of a table: median of the rates, the runs, medians of p50 and p99"""
    runs = " ".join(f"{line['tps']:,.0f}" for line in lines)
    return [median(lines), median(lines, "p50_us"), median(lines, "p99_us"), runs]


FIGURES = ["tps", "p50 us", "p99 us", "runs"]


def keep_long(path, line, words):
    """Times are seconds: start, ended (vload has), sealed (all its segments are), archived (so is all of it)."""
    now = fields(words)
    start = now.pop("start")
    times = {name: now.pop(name) - start for name in ("ended", "sealed", "archived")}
    votes = line["accepted"] + line["rejected"]
    line = {
        "part": "long", "system": "dbosd", "workload": "vote-C", "clients": line["clients"], "pipeline": line["pipeline"],
        "tps": round(votes / times["sealed"]), "tps_ended": round(votes / times["ended"]), "p50_us": line["p50_us"],
        "p99_us": line["p99_us"], "max_us": line["max_us"], "accepted": line["accepted"], "rejected": line["rejected"],
        "errors": line["errors"],
        **{f"{name}_s": round(value, 2) for name, value in times.items()}, **now,
    }  # fmt: skip
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")
    print(
        f"long {line['clients']} x {line['pipeline']}: {line['tps']:,}/s until sealed ({line['sealed_s']} s), {line['tps_ended']:,}/s until "
        f"the last reply ({line['ended_s']} s), p99 {line['p99_us']:,} us; the archiver had everything after {line['archived_s']} s"
    )


def long(lines):
    runs = groups([line for line in lines if line.get("part") == "long"], "clients", "pipeline")
    if not runs:
        return
    print("long runs: vote, throughput until the segments are sealed")
    peers = groups(
        [line for line in lines if line.get("system", "").startswith("tarantool") and line.get("workload") == "vote-C" and "tps" in line],
        "clients", "pipeline",
    )  # fmt: skip
    rows = [
        [f"{key[0]} x {key[1]}", median(found), median(found, "tps_ended"), f"{median(found, 'sealed_s'):.1f}",
         f"{median(found, 'archived_s'):.1f}", median(found, "p50_us"), median(found, "p99_us"), median(found, "rss_mb"),
         median(peers[key]) if key in peers else "not measured"]
        for key, found in runs.items()
    ]  # fmt: skip
    table(["setting", "tps sealed", "until replied", "sealed s", "archived s", "p50 us", "p99 us", "RSS MB", "Tarantool C"], rows)
    for key, found in runs.items():
        if key in peers:
            ratio = median(found) / median(peers[key])
            bar(f"{key[0]} x {key[1]}: {ratio:.2f} x Tarantool (>= 1.3)", ratio >= 1.3)


def reads(lines):
    runs = groups([line for line in lines if line.get("part") == "reads"], "reads")
    if len(runs) != 2:
        return
    print("what recording the reads costs: vote, 32 x 16")
    table(["reads", "node us each"] + FIGURES, [[key[0], median(found, "node_cpu_us")] + figures(found) for key, found in runs.items()])
    cost = 1 - median(runs["relaxed",]) / median(runs["off",])
    bar(f"cost {100 * cost:.1f} % (<= 10 %)", cost <= 0.1)


def hot(lines):
    own = groups([line for line in lines if line.get("part") == "hot"], "partitions", "call")
    if not own:
        return
    print("contention: 32 x 1, each accepted vote raises its contestant's total, too (vote_hot)")
    table(["call", "partitions"] + FIGURES, [[call, partitions] + figures(runs) for (partitions, call), runs in own.items()])
    peer = [
        line
        for line in lines
        if line.get("system", "").startswith("postgres") and line["workload"] == "hot" and line["clients"] == 32
        and line["durability"].endswith("=on")
    ]  # fmt: skip
    if (1, "vote_hot") in own and (1, "vote") in own:
        rate = median(own[1, "vote_hot"])
        part = rate / median(own[1, "vote"])
        bar(f"one partition, vote_hot / vote = {part:.2f} (>= 0.85)", part >= 0.85)
        if peer and "tps" in peer[-1]:
            ratio = rate / peer[-1]["tps"]
            bar(f"one partition, vote_hot / PostgreSQL's {peer[-1]['tps']:,} = {ratio:.1f} (>= 20)", ratio >= 20)
        else:
            print("  PostgreSQL was not measured")


def multi(lines):
    mixes = groups([line for line in lines if line.get("part") == "multi"], "per_mille")
    if not mixes:
        return
    print("transactions on several partitions among votes: throughput by their share")
    rows = []
    base = median(mixes[(0,)]) if (0,) in mixes else None
    for (share,), runs in mixes.items():
        cost = "" if base is None else f"{100 * (1 - median(runs) / base):.1f} %"
        each = statistics.median(run["calls"][1]["p50_us"] for run in runs)
        rows.append([f"{share / 10:g} %", cost, each] + figures(runs))
    table(["share", "cost", "their p50 us"] + FIGURES, rows)
    for share, most in ((1, 0.05), (100, 0.4)):
        if base and (share,) in mixes:
            cost = 1 - median(mixes[(share,)]) / base
            bar(f"{share / 10:g} % cost {100 * cost:.1f} % (<= {100 * most:.0f} %)", cost <= most)


def rows(lines):
    runs = groups([line for line in lines if line.get("part") == "rows" and "tps" in line], "connections", "call", "rows")
    for connections, call in dict.fromkeys((key[0], key[1]) for key in runs):
        of_call = {size: found for (c, k, size), found in runs.items() if (c, k) == (connections, call)}
        first = next(iter(of_call.values()))
        print(f"growth: {call}, {connections} x {first[0]['depth']}, by rows of the table")
        least = median(first)
        table(
            ["rows", "beside the first", "node us each"] + FIGURES,
            [[size, f"{median(found) / least:.2f}", f"{median(found, 'node_cpu_us'):.1f}"] + figures(found) for size, found in of_call.items()],
        )
    filled = [line for line in lines if line.get("part") == "rows-filled"]
    if filled:
        print("growth: two tables filled")
        table(["rows of each", "s", "RSS MB"], [[line["rows"], line["seconds"], line["rss_mb"]] for line in filled])
    for line in lines:
        if line.get("part") == "rows" and "skipped" in line:
            print(f"  {line['rows']:,} rows: skipped ({line['skipped']})")


def connections(lines):
    runs = groups([line for line in lines if line.get("part") == "connections"], "connections")
    if not runs:
        return
    memory = groups([line for line in lines if line.get("part") == "connections-memory"], "connections")
    print("growth: vote, closed loop, depth 1, by connections (RSS grows with the votes, too)")
    table(
        ["connections", "RSS MB"] + FIGURES,
        [[key[0], median(memory[key], "rss_mb") if key in memory else 0] + figures(found) for key, found in runs.items()],
    )
    failed = {state for found in runs.values() for line in found for state in [*line["errors"], *line["refused"]]}
    bar(f"errors: {', '.join(sorted(failed)) or 'none'}", not failed)


def recovery_s(before, after):
    """The first second from which five in a row have 95 % of the former throughput; None if there is none"""
    series = after["per_second"]
    for second in range(len(series) - 4):
        if statistics.mean(series[second : second + 5]) >= 0.95 * before["tps"]:
            return second
    return None


def overload(lines):
    runs = {line["phase"]: line for line in lines if line.get("part") == "overload"}
    if not {"before", "overload", "after"} <= runs.keys():
        return
    before, during, after = runs["before"], runs["overload"], runs["after"]
    print(f"overload: {during['rate']:,} updates/s over {during['connections']:,} connections, {during['seconds']} s")
    late = 100 * during["late"] / max(1, during["arrivals"])
    rows = [
        [line["phase"], line["arrivals"], line["ok"], line["late"], line["unanswered"], str(line.get("node_cpu_us", ""))]
        + figures([line])[:3]
        for line in (before, during, after)
    ]
    table(["", "arrivals", "answered", "late", "unanswered", "node us each", "tps", "p50 us", "p99 us"], rows)
    print(f"  late, never sent: {late:.1f} % (all that the node and the generator had no time for)")
    print(f"  connected in {during['connect_s']} s; refused: {during['refused'] or 'none'}")
    errors = {state: count for line in runs.values() for state, count in line["errors"].items()}
    bar(f"errors: {errors or 'none'}, connections lost: {during['lost']}", errors.keys() <= DOCUMENTED and during["lost"] == 0)
    print(f"  the 20 s after it: {' '.join(f'{count:,}' for count in after['per_second'])}")
    second = recovery_s(before, after)
    text = "never" if second is None else f"after {second} s"
    bar(f">= 95 % of the former {before['tps']:,.0f}/s {text} (within 10 s)", second is not None and second < 10)
    memory = groups([line for line in lines if line.get("part") == "overload-memory"], "phase")
    peaks = {phase: max(line["rss_mb"] for line in found) for (phase,), found in memory.items()}
    print("  RSS, most in each phase: " + ", ".join(f"{phase} {peaks[phase]:,} MB" for phase in ("before", "overload", "after") if phase in peaks))
    found = [line["rss_mb"] for line in memory.get(("overload",), [])]
    if len(found) >= 8 and "after" in peaks:
        most, last = max(found[: 3 * len(found) // 4]), max(found[3 * len(found) // 4 :] + [peaks["after"]])
        print(f"  from the last quarter on {last / most:.2f} x what it was before")
        grown = max(peaks.values()) - peaks["before"]
        allowed = during["connections"] * CONNECTION_KB / 1024 + POOLS_MB
        bar(
            f"memory bounded: it grew by {grown:,} MB at most ({CONNECTION_KB} KB for each connection and {POOLS_MB} MB: <= {allowed:,.0f})",
            grown <= allowed,
        )


def lag_facts(path, line):
    """Is the lag flat: no higher in the last third of the run than in the one before, but for a second's worth of log?"""
    with open(path) as file:
        seconds = [words for words in (text.strip().split("|") for text in file) if len(words) == 4]
    third = line["seconds"] // 3
    seen = [float(words[0]) for words in seconds][-3 * third :] if third else []
    middle, last = seen[third : 2 * third], seen[2 * third :]
    positions = sum(int(words[2]) for words in seconds)
    each = sum(float(words[0]) for words in seconds) / positions if positions else 0
    keeps_up = line["late"] + line["unanswered"] <= 0.01 * line["arrivals"] and line["tps"] >= 0.98 * line["rate"]
    grows = statistics.median(last) - statistics.median(middle) if middle and last else float("inf")
    return {
        "tps": line["tps"],
        "late": line["late"],
        "lag_bytes_before": int(statistics.median(middle)) if middle else -1,
        "lag_bytes": int(statistics.median(last)) if last else -1,
        "lag_s_max": max((float(words[1]) for words in seconds), default=-1),
        "idle": sum(words[3] == "idle" for words in seconds),
        "samples": len(seconds),
        "flat": int(keeps_up and grows <= max(each * line["rate"], 1 << 20)),
    }


def backlog_facts(path, line):
    """Rates before the archiver was stopped, while the backlog was full, and when it went on; whole seconds of each"""
    with open(path) as file:
        times = json.load(file)
    series = line["per_second"][: line["seconds"]]
    before = statistics.mean(series[1 : int(times["stopped"])])
    full = series[int(times["full"]) + 1 : int(times["on"])]
    after = series[int(times["on"]) + 1 :]
    back = next((i for i, rate in enumerate(series[int(times["on"]) :]) if rate >= 0.9 * before), None)
    return {
        "tps_before": int(before),
        "full_after_s": round(times["full"] - times["stopped"], 1),
        "tps_full": int(statistics.mean(full)) if full else -1,
        "tps_after": int(statistics.mean(after)) if after else -1,
        "back_after_s": -1 if back is None else back,
        "refused": sum(line["errors"].values()),
        "errors": "+".join(sorted(line["errors"])) or "none",
    }


def lag(lines):
    runs = [line for line in lines if line.get("part") == "lag"]
    if not runs:
        return
    print("the archive's lag: votes of an open loop, 32 connections; flat = no higher in the last third than in the middle one")
    table(
        ["", "rate", "s", "tps", "lag KB", "before", "most s", "flat"],
        [
            [line["phase"], line["rate"], line["seconds"], line["tps"], line["lag_bytes"] / 1024, line["lag_bytes_before"] / 1024]
            + [f"{line['lag_s_max']:.1f}", "yes" if line["flat"] else "no"]
            for line in runs
            if line["phase"] in ("search", "confirm")
        ],
    )
    for line in runs:
        if line["phase"] == "result":
            print(f"  flat for {line['seconds']} s: {line['flat_rate']:,}/s; a closed loop of 32 x 16 does {line['closed_tps']:,}/s")
            print(
                f"  a backlog of {line['backlog'] >> 20} MB: {line['tps_before']:,}/s before; the archiver stopped, full after "
                f"{line['full_after_s']} s: {line['tps_full']:,}/s ({line['refused']:,} refused, {line['errors']}); "
                f"{line['tps_after']:,}/s when it goes on, 90 % after {line['back_after_s']} s"
            )


def quantile_us(buckets, part):
    """Of [[to_us, count], ...]: the upper end of the bucket that has it"""
    wanted, seen = part * sum(count for _, count in buckets), 0
    for to_us, count in buckets:
        seen += count
        if seen > wanted:
            return to_us
    return 0


def between(before, after, name):
    """What came into the buckets of a name from one reading to the next"""
    was = dict(map(tuple, before["buckets"].get(name, [])))
    return [[to_us, count - was.get(to_us, 0)] for to_us, count in after["buckets"].get(name, [])]


def snapshot(lines):
    readings = [line for line in lines if line.get("part") == "snapshot-waits"]
    runs = [line for line in lines if line.get("part") == "snapshot"]
    if not runs:
        return
    print("a snapshot under load: votes without and with one; wait: from submission to begin in the partition")
    rss = {(line["phase"], line["rep"], line["depth"]): line["rss_mb"] for line in lines if line.get("part") == "snapshot-rss"}
    took = {(line["rep"], line["depth"]): line for line in lines if line.get("part") == "snapshot-took"}
    # three readings for each pair of runs: before, without, with
    gaps = {}
    for i, line in enumerate(runs):
        at = i // 2 * 3 + i % 2
        gaps[i] = (readings[at], readings[at + 1])
    rows = []
    for i, line in enumerate(runs):
        wait, sync = (between(*gaps[i], name) for name in ("wait", "log sync"))
        key = (line["phase"], line["rep"], line["depth"])
        snap = took.get((line["rep"], line["depth"])) if line["phase"] == "with" else None
        rows.append(
            [f"{line['connections']} x {line['depth']}", line["phase"], line["tps"], line["p50_us"], line["p99_us"], line["p999_us"]]
            + [quantile_us(wait, 0.99), quantile_us(wait, 0.999), quantile_us(sync, 0.999), rss[key]]
            + [f"{snap['seconds']:.1f} s, {snap['bytes'] / 1e9:.2f} GB" if snap else ""]
        )
    table(["", "snapshot", "tps", "p50 us", "p99 us", "p99.9 us", "wait p99", "wait p99.9", "sync p99.9", "RSS MB", ""], rows)
    worst = 0
    for (without, with_), i in zip(zip(runs[::2], runs[1::2]), range(0, len(runs), 2)):
        more = quantile_us(between(*gaps[i + 1], "wait"), 0.999) - quantile_us(between(*gaps[i], "wait"), 0.999)
        worst = max(worst, more)
    bar(f"a partition kept its requests waiting {worst / 1000:.1f} ms longer at p99.9 at most (<= 10)", worst <= 10000)
    grown = max(rss[("with", w["rep"], w["depth"])] / rss[("without", w["rep"], w["depth"])] - 1 for w in runs if w["phase"] == "with")
    bar(f"RSS grew by {100 * grown:.1f} % at most, the votes of the run included (<= 30)", grown <= 0.3)
    for line in lines:
        if line.get("part") == "restart" and line["what"] == "from-snapshot":
            bar(f"a start from it, and the log of the votes behind it: {line['seconds']:.1f} s (<= 15)", line["seconds"] <= 15)


def recovery(lines):
    starts = [line for line in lines if line.get("part") == "restart" and line["what"] in ("log", "snapshot")]
    if not starts:
        return
    print("a start after kill -9: seconds until ready, by what there is to read")
    medians = {}
    rows = []
    for (what, partitions), found in groups(starts, "what", "partitions").items():
        medians[what, partitions] = median(found, "seconds")
        runs = " ".join(f"{line['seconds']:.1f}" for line in found)
        rows.append([what, str(partitions), found[0]["votes"], f"{medians[what, partitions]:.1f}", runs])
    table(["", "partitions", "votes", "s", "runs"], rows)
    one = {line["partitions"]: line for line in starts if line["what"] == "log"}
    per_vote = medians["log", 1] / one[1]["votes"]
    bar(f"10,000,000 votes of the log on one partition: {per_vote * 1e7:.1f} s (<= 20)", per_vote * 1e7 <= 20)
    if ("log", 2) in medians:
        two = medians["log", 2] / one[2]["votes"]
        bar(f"on two: {two * 1e7:.1f} s (faster)", two < per_vote)


def summary(path):
    with open(path) as file:
        lines = [json.loads(line) for line in file if line.startswith("{")]
    for part in (long, reads, hot, multi, rows, connections, overload, lag, snapshot, recovery):
        part(lines)
    runs = [line for line in lines if "others" in line]
    disturbed = sum(line["others"] > QUIET for line in runs)
    if disturbed:
        print(f"others used more than {100 * QUIET:.0f} % of the machine's processors in {disturbed} of {len(runs)} runs")
    for line in lines:
        if line.get("part") == "fault":
            bar(f"{line['what']}: {line['is']}, but should be {line['wanted']}", False)


def main():
    words = sys.argv[1:]
    if words[:1] == ["keep"] and len(words) >= 2:
        line = json.loads(sys.stdin.read()) | fields(words[2:])
        with open(words[1], "a") as file:
            file.write(json.dumps(line) + "\n")
        show(line)
    elif words[:1] == ["long"] and len(words) >= 2:
        keep_long(words[1], json.loads(sys.stdin.read()), words[2:])
    elif words[:1] == ["field"] and len(words) == 2:
        print(eval(words[1], {"__builtins__": {"sum": sum, "int": int}}, json.loads(sys.stdin.read())))
    elif words[:1] == ["note"]:
        print(json.dumps(fields(words[1:])))
    elif words[:1] in (["lag"], ["backlog"]) and len(words) == 2:
        facts = (lag_facts if words[0] == "lag" else backlog_facts)(words[1], json.loads(sys.stdin.read()))
        print("\n".join(f"{name}={value}" for name, value in facts.items()))
    elif words[:1] == ["waits"]:
        buckets = {}
        for text in sys.stdin:
            name, to_us, count = text.strip().split("|")
            buckets.setdefault(name, []).append([float(to_us), int(count)])
        print(json.dumps(fields(words[1:]) | {"buckets": buckets}))
    elif words[:1] == ["summary"] and len(words) == 2:
        summary(words[1])
    else:
        sys.exit(__doc__)


main()
