#!/usr/bin/env python3
"""Where the nanoseconds of one Vote go: samples of all threads of a node, as a flame graph and as a table.

  flame.py DATA_DIR OUT COMMAND...   runs COMMAND (vload, which prints one line of JSON) against the node on
                                     DATA_DIR while perf looks; writes OUT.svg, OUT.txt, OUT.folded

Each thread's processor time for a vote is measured (as in threads.py); samples only say how it divides. A
sample of a compiled function of ours belongs to the folder of the source line where it was, inlined code
included; one in the kernel to what the nearest frame with a telling name does; one in another library to
that library. The archiver is one line: it is DuckDB's.
"""
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

from threads import processes, thread_times

HERTZ = 1997  # not in step with anything that happens every millisecond

# The folders of a Vote's way, as the table calls them.
LAYERS = [
    ("net", "net: connections, loop", "#e8743b"),
    ("session", "wire, session", "#f2a65a"),
    ("partition", "partition, queue, submitter", "#d4b106"),
    ("execute", "execute: one request", "#b8a13a"),
    ("procs", "procs: plan, run, SDK, vote.so", "#6a994e"),
    ("txn", "txn: begin, undo, commit", "#2a9d8f"),
    ("storage", "storage: rows, indexes", "#1b6ca8"),
    ("provenance", "provenance: capture, record", "#8e44ad"),
    ("log", "log: batches, writes", "#577590"),
    ("base", "base: memory, histograms", "#8d99ae"),
    ("libc", "libc", "#adb5bd"),
    ("kernel-net", "kernel: network", "#c0392b"),
    ("kernel-disk", "kernel: disk", "#7f5539"),
    ("kernel-sched", "kernel: scheduling, waking", "#e07a8b"),
    ("kernel-memory", "kernel: memory", "#a4161a"),
    ("kernel", "kernel: the rest", "#d98880"),
    ("archiver", "archiver (DuckDB)", "#40916c"),
    ("other", "other", "#cccccc"),
]
COLORS = {name: color for name, _, color in LAYERS}
TITLES = {name: title for name, title, _ in LAYERS}

# The first frame, from the leaf on, that matches says what the kernel did.
KERNEL = [
    ("kernel-sched", re.compile(
        r"^(__schedule|schedule|try_to_wake_up|wake_up|__wake_up|finish_task_switch|futex|do_futex|ttwu|"
        r"enqueue_task|dequeue_task|pick_next_task|ep_poll_callback|eventfd|default_wake|select_task_rq|"
        r"sched_|update_curr|resched|x64_sys_futex|wake_q)")),
    ("kernel-net", re.compile(
        r"^(tcp_|__tcp|inet_|ip_|__ip_|sock_|__sock|sk_|__sk_|skb_|__alloc_skb|net_rx|__netif|netif_|process_backlog|"
        r"dev_queue|__dev_queue|loopback|napi|__napi|nf_|__sys_send|__sys_recv|security_socket|ipv4_|copyout|"
        r"simple_copy|_copy_from_iter|_copy_to_iter|io_recv|io_send|validate_xmit|release_sock|lock_sock|selinux_socket)")),
    ("kernel-disk", re.compile(
        r"^(ext4|jbd2|blk_|__blk|submit_bio|bio_|virtio|virtblk|nvme|vfs_write|vfs_fsync|ksys_p?write|do_fsync|"
        r"generic_perform_write|filemap|__filemap|iomap|file_write|writeback|__writeback|do_writepages|scsi|"
        r"mark_buffer|xfs|vfs_read|ksys_read)")),
    ("kernel-memory", re.compile(
        r"^(asm_exc_page_fault|exc_page_fault|do_user_addr_fault|handle_mm_fault|do_anonymous_page|clear_huge|"
        r"clear_page|do_huge|__alloc_pages|alloc_pages|unmap_|zap_|do_madvise|do_mmap|tlb_|flush_tlb|khugepaged)")),
]  # fmt: skip

PARTITION = {"partition.c", "submitter.c", "engine.c", "barrier.c", "queue.c", "meter.c"}
NET = {"net.c", "loop.c", "loop_uring.c", "loop_poll.c"}


def layer_of_source(path):
    """The layer of a source file of ours; None where it is not ours."""
    parts = path.split("/")
    name = parts[-1]
    if "engine" in parts or "base" in parts:
        if name.startswith(("session", "wire", "settings")):
            return "session"
        if name in NET or name.startswith("loop"):
            return "net"
        if name in PARTITION or name == "queue.h":
            return "partition"
        return "execute" if "engine" in parts else "base"
    if "procs" in parts:
        return "procs"
    if "provenance" in parts:
        return "log" if name.startswith(("segment", "blob")) else "provenance"
    if "storage" in parts:
        return "storage"
    if "txn" in parts:
        return "log" if name.startswith(("log", "segment", "env_")) else "txn"
    return None


class Sources:
    """Source files of the addresses of a program, looked up all at once."""

    def __init__(self, program):
        self.program = program
        self.wanted = set()
        self.found = {}

    def look(self):
        order = sorted(self.wanted)
        text = "\n".join(f"0x{address:x}" for address in order)
        out = subprocess.run(["addr2line", "-a", "-i", "-f", "-e", self.program], input=text, capture_output=True, text=True, check=True)
        address, lines = None, []
        for line in out.stdout.splitlines() + ["0x0"]:
            if line.startswith("0x"):
                if address is not None:
                    self.found[address] = [(lines[i], lines[i + 1].split(":")[0]) for i in range(0, len(lines) - 1, 2)]
                address, lines = int(line, 16), []
            else:
                lines.append(line)


def read_samples(path):
    """[(pid, tid, [(address, symbol, library) from the leaf on])]"""
    out = subprocess.run(
        ["perf", "script", "-i", path, "-F", "pid,tid,ip,sym,dso"], capture_output=True, text=True, check=True
    )  # fmt: skip
    samples, head, frames = [], None, []
    for line in out.stdout.splitlines() + [""]:
        if not line.strip():
            if head and frames:
                samples.append((*head, frames))
            head, frames = None, []
        elif head is None:
            pid, tid = re.search(r"(\d+)/(\d+)", line).groups()
            head = (pid, tid)
        else:
            found = re.match(r"\s*([0-9a-f]+) (.*?) \((.*)\)$", line)
            if found:
                address = int(found[1], 16) - (1 if frames else 0)  # a caller's is behind its call
                frames.append((address, found[2], found[3]))
    return samples


def is_kernel(library):
    return library.startswith("[kernel")


def plain(symbol):
    return re.sub(r"\.(lto_priv|constprop|part|isra|cold)(\.\d+)?", "", symbol)


class Node:
    def __init__(self, program):
        self.program = os.path.realpath(program)
        self.sources = Sources(self.program)

    def is_own(self, library):
        return os.path.realpath(library) == self.program

    def layer(self, frames):
        address, symbol, library = frames[0]
        if is_kernel(library):
            for _, name, place in frames:
                if not is_kernel(place):
                    break
                for layer, pattern in KERNEL:
                    if pattern.match(name):
                        return layer
            return "kernel"
        if self.is_own(library):
            for _, path in self.sources.found.get(address, []):
                layer = layer_of_source(path)
                if layer:
                    return layer
            return "other"
        if "libc" in os.path.basename(library) or "ld-linux" in library or library == "[vdso]":
            return "libc"
        return "procs" if "memfd:dbos-module" in library else "other"

    def names(self, frames):
        """Names of a stack from the root on, inlined functions included, each with its layer's name."""
        names = []
        for address, symbol, library in reversed(frames):
            if is_kernel(library):
                names.append((symbol, None))
            elif self.is_own(library) and self.sources.found.get(address):
                for name, path in reversed(self.sources.found[address]):
                    names.append((plain(name), layer_of_source(path) or "other"))
            else:
                name = "the procedure" if "memfd:dbos-module" in library else plain(symbol)
                names.append((name, "libc" if "libc" in library else "procs" if "memfd" in library else "other"))
        return names


# -- the flame graph -------------------------------------------------------------------------------------------


class Frame:
    def __init__(self):
        self.ns = 0.0
        self.layers = collections.Counter()
        self.below = {}

    def add(self, names, layer, ns):
        frame = self
        frame.ns += ns
        frame.layers[layer] += ns
        for name in names:
            frame = frame.below.setdefault(name, Frame())
            frame.ns += ns
            frame.layers[layer] += ns


WIDTH, ROW, SIDE, TOP, LEGEND = 1400, 17, 10, 60, 64


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def depth(frame, least):
    return 1 + max((depth(below, least) for below in frame.below.values() if below.ns >= least), default=0)


def draw(out, frame, name, own, x, level, scale, bottom, total, least):
    width = frame.ns * scale
    color = COLORS[own or frame.layers.most_common(1)[0][0]]
    y = bottom - (level + 1) * ROW
    label = escaped(f"{name}: {frame.ns:,.0f} ns, {100 * frame.ns / total:.1f} %")
    out.append(f'<g><title>{label}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.3):.1f}" height="{ROW - 1}" fill="{color}"/>')
    letters = int((width - 4) / 6.4)
    if letters >= 3:
        shown = name if len(name) <= letters else name[: letters - 1] + "…"
        out.append(f'<text x="{x + 2:.1f}" y="{y + 12}">{escaped(shown)}</text>')
    out.append("</g>")
    for (below_name, below_own), below in sorted(frame.below.items(), key=lambda item: item[0][0]):
        if below.ns >= least:
            draw(out, below, below_name, below_own, x, level + 1, scale, bottom, total, least)
        x += below.ns * scale


def write_svg(path, root, title):
    scale = (WIDTH - 2 * SIDE) / root.ns
    least = 0.4 / scale  # narrower than this is not drawn
    height = TOP + depth(root, least) * ROW + LEGEND
    bottom = height - LEGEND
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans Mono, monospace" font-size="10.5">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{SIDE}" y="24" font-size="16">{escaped(title)}</text>',
        f'<text x="{SIDE}" y="42" fill="#555">Width is processor time; a frame stands on its caller; hover for its nanoseconds for one vote.</text>',
    ]
    draw(out, root, "the node", "other", SIDE, 0, scale, bottom, root.ns, least)
    shown = [name for name, _, _ in LAYERS if root.layers[name] > 0]
    per_row = (len(shown) + 2) // 3
    for i, name in enumerate(shown):
        x = SIDE + (i % per_row) * (WIDTH - 2 * SIDE) / per_row
        y = bottom + 10 + (i // per_row) * 18
        out.append(f'<rect x="{x:.0f}" y="{y}" width="12" height="12" fill="{COLORS[name]}"/>')
        out.append(f'<text x="{x + 17:.0f}" y="{y + 10}">{escaped(TITLES[name])}</text>')
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


# -- the table -------------------------------------------------------------------------------------------------


def write_table(file, root, threads, per_thread, head):
    print(head, file=file)
    names = sorted(threads, key=lambda name: -threads[name])
    print(f"{'ns of one vote':32}" + "".join(f"{name:>12}" for name in names) + f"{'all':>10}{'%':>7}", file=file)
    for layer, title, _ in LAYERS:
        row = [per_thread[name][layer] for name in names]
        if sum(row) >= 1:
            cells = "".join(f"{ns:12,.0f}" if ns >= 0.5 else f"{'':12}" for ns in row)
            print(f"{title:32}{cells}{sum(row):10,.0f}{100 * sum(row) / root.ns:7.1f}", file=file)
    print(f"{'all':32}" + "".join(f"{threads[name]:12,.0f}" for name in names) + f"{root.ns:10,.0f}{100:7.1f}", file=file)


def measure(data_dir, command):
    """(result of the command, {tid: (program, thread, ns for each vote)}, samples, the node's program)"""
    programs = processes(data_dir)
    if "dbosd" not in programs.values():
        sys.exit(f"flame.py: no dbosd on {data_dir}")
    node = next(pid for pid, program in programs.items() if program == "dbosd")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "samples")
        perf = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(HERTZ), "-g", "-p", ",".join(programs), "-o", path],
            stderr=subprocess.DEVNULL,
        )
        before = {pid: thread_times(pid) for pid in programs}
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        after = {pid: thread_times(pid) for pid in programs}
        perf.send_signal(2)
        perf.wait()
        samples = read_samples(path)
    result = json.loads(run.stdout)
    votes = result["accepted"] + result.get("rejected", 0)
    times = {}
    for pid, program in programs.items():
        for tid, now in after[pid].items():
            was = before[pid].get(tid, (now[0], 0))
            times[tid] = (program, now[0], (now[1] - was[1]) / votes)
    return result, times, samples, os.readlink(f"/proc/{node}/exe")


def thread_name(program, name):
    return "archiver" if program == "dbos-archiver" else name


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    data_dir, out, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    result, times, samples, program = measure(data_dir, command)
    node = Node(program)
    counts = collections.Counter(tid for _, tid, _ in samples)
    for _, _, frames in samples:
        node.sources.wanted.update(address for address, _, library in frames if node.is_own(library))
    node.sources.look()
    root, folded = Frame(), collections.Counter()
    threads, per_thread = collections.Counter(), collections.defaultdict(collections.Counter)
    for _, tid, frames in samples:
        if tid not in times:
            continue
        name = thread_name(*times[tid][:2])
        ns = times[tid][2] / counts[tid]
        layer = "archiver" if name == "archiver" else node.layer(frames)
        names = [(name, "archiver" if name == "archiver" else "other")] + ([] if name == "archiver" else node.names(frames))
        root.add(names, layer, ns)
        threads[name] += ns
        per_thread[name][layer] += ns
        folded[";".join(part for part, _ in names)] += ns
    small = [name for name in threads if threads[name] < 0.005 * root.ns]
    for name in small:
        threads["others"] += threads.pop(name)
        per_thread["others"].update(per_thread.pop(name))
    title = f"One vote, {result['clients']} x {result['pipeline']}: {root.ns:,.0f} ns on the node's processors"
    write_svg(out + ".svg", root, title)
    head = f"{result['clients']} x {result['pipeline']}: {result['tps']:,} votes/s while perf looked, {len(samples):,} samples"
    with open(out + ".txt", "w") as file:
        write_table(file, root, threads, per_thread, head)
    with open(out + ".folded", "w") as file:
        for stack, ns in sorted(folded.items()):
            file.write(f"{stack} {ns:.1f}\n")
    write_table(sys.stdout, root, threads, per_thread, head)


if __name__ == "__main__":
    main()
