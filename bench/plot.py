#!/usr/bin/env python3
"""Plots of a result of full.sh, as SVG, without any library.

  plot.py FOLDER   reads FOLDER/full.jsonl; writes rows-*.svg, connections-*.svg, overload-*.svg there
"""
import json
import math
import os
import statistics
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 80, 50, 40, 160
COLORS = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#555555"]


def short(value):
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def time(value):
    """of microseconds"""
    for limit, unit in ((1e6, "s"), (1e3, "ms")):
        if value >= limit:
            return f"{value / limit:g} {unit}"
    return f"{value:g} µs"


def escaped(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Axis:
    """From values to pixels. A logarithmic one goes over whole powers of ten, a linear one from 0."""

    def __init__(self, values, first, last, is_log):
        self.first, self.last, self.is_log = first, last, is_log
        if is_log:
            self.low = math.floor(math.log10(min(values)))
            self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
            self.ticks = [10.0**power for power in range(self.low, self.high + 1)]
        else:
            most = max(max(values), 1e-9)
            step = 10.0 ** math.floor(math.log10(most / 4)) if most > 0 else 1
            step *= next(times for times in (1, 2, 5, 10) if most / (step * times) <= 6)
            self.low, self.high = 0, math.ceil(most / step) * step
            self.ticks = [step * i for i in range(round(self.high / step) + 1)]

    def at(self, value):
        place = math.log10(value) if self.is_log else value
        return self.first + (self.last - self.first) * (place - self.low) / (self.high - self.low)


def plot(path, title, x_name, y_name, series, log_x=True, log_y=False, show_y=short):
    """series: {name: [(x, y), ...]}; show_y: the text of a value on the vertical axis"""
    points = [point for found in series.values() for point in found if point[1] > 0 or not log_y]
    if not points:
        return
    x = Axis([point[0] for point in points], LEFT, WIDTH - RIGHT, log_x)
    y = Axis([point[1] for point in points], HEIGHT - BOTTOM, TOP, log_y)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="{TOP - 18}" font-size="14">{escaped(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escaped(x_name)}</text>',
        f'<text x="16" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2})">{escaped(y_name)}</text>',
    ]
    for tick in x.ticks:
        out.append(f'<line x1="{x.at(tick):.1f}" y1="{TOP}" x2="{x.at(tick):.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        out.append(f'<text x="{x.at(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(tick)}</text>')
    for tick in y.ticks:
        out.append(f'<line x1="{LEFT}" y1="{y.at(tick):.1f}" x2="{WIDTH - RIGHT}" y2="{y.at(tick):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{show_y(tick)}</text>')
    of_one = list(dict.fromkeys(name.removesuffix(" p50").removesuffix(" p99") for name in series))
    for i, (name, found) in enumerate(series.items()):
        color = COLORS[of_one.index(name.removesuffix(" p50").removesuffix(" p99")) % len(COLORS)]
        dash = ' stroke-dasharray="6 4"' if name.endswith(" p99") else ""
        shown = [(x.at(a), y.at(b)) for a, b in found if b > 0 or not log_y]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in shown)
        out.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"{dash}/>')
        if len(shown) <= 20:
            out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"/>' for a, b in shown]
        key_y = TOP + 10 + 18 * i
        out.append(
            f'<line x1="{WIDTH - RIGHT + 8}" y1="{key_y}" x2="{WIDTH - RIGHT + 28}" y2="{key_y}" stroke="{color}" stroke-width="2"{dash}/>'
        )
        out.append(f'<text x="{WIDTH - RIGHT + 33}" y="{key_y + 4}" fill="{color}">{escaped(name)}</text>')
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def medians(lines, x_name, y_name):
    """[(x, median of y)], by x"""
    found = {}
    for line in lines:
        found.setdefault(line[x_name], []).append(line[y_name])
    return [(x, statistics.median(values)) for x, values in sorted(found.items())]


def growth(folder, lines, part, x_name, key, title):
    lines = [line for line in lines if line.get("part") == part and "tps" in line]
    for load in dict.fromkeys(key(line)[0] for line in lines):
        of_load = [line for line in lines if key(line)[0] == load]
        names = list(dict.fromkeys(key(line)[1] for line in of_load))
        rates = {name: medians([line for line in of_load if key(line)[1] == name], x_name, "tps") for name in names}
        times = {
            f"{name} {text}".strip(): medians([line for line in of_load if key(line)[1] == name], x_name, field)
            for name in names
            for text, field in (("p50", "p50_us"), ("p99", "p99_us"))
        }
        cpu = {
            name: medians([line for line in of_load if key(line)[1] == name and "node_cpu_us" in line], x_name, "node_cpu_us")
            for name in names
        }
        suffix = f"-{load}" if load else ""
        plot(f"{folder}/{part}{suffix}-cpu.svg", f"{title} {load}".strip(), x_name, "µs of the node's processors for each", cpu)
        plot(f"{folder}/{part}{suffix}-throughput.svg", f"{title} {load}".strip(), x_name, "transactions/s", rates)
        plot(f"{folder}/{part}{suffix}-latency.svg", f"{title} {load}".strip(), x_name, "latency", times, log_y=True, show_y=time)


def overload(folder, lines):
    memory = [line for line in lines if line.get("part") == "overload-memory"]
    series = {}
    for line in memory:
        series.setdefault(line["phase"], []).append((line["at"], line["rss_mb"]))
    plot(f"{folder}/overload-memory.svg", "Memory of the node", "s", "RSS, MB", series, log_x=False)
    runs = {line["phase"]: line for line in lines if line.get("part") == "overload"}
    series = {phase: list(enumerate(runs[phase]["per_second"])) for phase in ("before", "overload", "after") if phase in runs}
    plot(f"{folder}/overload-throughput.svg", "Answers in each second of a phase", "s", "answers/s", series, log_x=False)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = sys.argv[1]
    with open(os.path.join(folder, "full.jsonl")) as file:
        lines = [json.loads(line) for line in file if line.startswith("{")]
    growth(folder, lines, "rows", "rows", lambda line: (f"{line['connections']}x{line['depth']}", line["call"]), "By rows of the table,")
    growth(folder, lines, "connections", "connections", lambda line: ("", "vote"), "Vote, one request at a time on each connection")
    overload(folder, lines)


main()
