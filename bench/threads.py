#!/usr/bin/env python3
"""Where the processor's time of one Vote goes, thread by thread.

  threads.py DATA_DIR COMMAND...   runs COMMAND (vload, which prints one line of JSON; with -w 0, because
                                   the votes of its warm-up are not in that line, though their time
                                   is) against the node on DATA_DIR and prints, for each thread of
                                   dbosd and dbos-archiver and for vload, microseconds of processor
                                   time per vote.

Time on the processor includes what the hypervisor took away meanwhile; switches are voluntary and
involuntary context switches.
"""
import json
import os
import subprocess
import sys


def text(path):
    with open(path) as file:
        return file.read()


def processes(data_dir):
    """{pid: program} of those whose command line names the directory."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = text(f"/proc/{pid}/cmdline").split("\0")
        except OSError:
            continue
        program = os.path.basename(words[0])
        if program in ("dbosd", "dbos-archiver") and data_dir in words:
            found[pid] = program
    return found


def thread_times(pid):
    """{tid: (name, on the processor ns, user ticks, system ticks, switches)}"""
    times = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        base = f"/proc/{pid}/task/{tid}"
        stat = text(base + "/stat")
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        fields = stat[stat.rindex(")") + 2 :].split()
        switches = sum(int(line.split()[1]) for line in text(base + "/status").splitlines() if "ctxt_switches" in line)
        ran = int(text(base + "/schedstat").split()[0])
        times[tid] = (name, ran, int(fields[11]), int(fields[12]), switches)
    return times


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    data_dir, command = sys.argv[1], sys.argv[2:]
    programs = processes(data_dir)
    if not programs:
        sys.exit(f"threads.py: no dbosd on {data_dir}")
    before = {pid: thread_times(pid) for pid in programs}
    start = os.times()
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    end = os.times()
    after = {pid: thread_times(pid) for pid in programs}
    result = json.loads(run.stdout)
    votes = result["accepted"] + result.get("rejected", 0)
    tick_us = 1e6 / os.sysconf("SC_CLK_TCK")
    print(f"{result['clients']} x {result['pipeline']}: {result['tps']:,} votes/s, p50 {result['p50_us']} us")
    print(f"{'thread':32} {'us/vote':>8} {'user':>7} {'system':>7} {'switches/vote':>14}")
    load = (end.children_user - start.children_user, end.children_system - start.children_system)
    user, system = (1e6 * seconds / votes for seconds in load)
    print(f"{'vload':32} {user + system:8.2f} {user:7.2f} {system:7.2f}")
    total = 0.0
    for pid, program in sorted(programs.items(), key=lambda item: item[1], reverse=True):
        for tid, now in sorted(after[pid].items(), key=lambda item: -item[1][1]):
            was = before[pid].get(tid, (now[0], 0, 0, 0, 0))
            ran = (now[1] - was[1]) / 1000 / votes
            total += ran
            if ran < 0.05:
                continue
            label = f"{program} {now[0]}" if now[0] != program else program
            ticks = [(now[i] - was[i]) * tick_us / votes for i in (2, 3)]
            print(f"{label:32} {ran:8.2f} {ticks[0]:7.2f} {ticks[1]:7.2f} {(now[4] - was[4]) / votes:14.3f}")
    print(f"{'the node in all':32} {total:8.2f}")


if __name__ == "__main__":
    main()
