"""The page of ``benchmarks.growth``, as Markdown."""

import statistics

from benchmarks.common import number
from course_utils.text import markdown_table


def page(found):
    """Return growth.md of what growth.json holds."""
    m = found["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    parts = [
        "# Growth",
        f"Measured by `python -m benchmarks.growth` on {m['chip']}, {m['cores']} cores, {m['threads']} thread"
        f"{'s' * (m['threads'] != 1)} a process, {m['system']}, Python {m['python']}, {versions}. No GPU. The model is nano, the "
        "bundled base of 6.8 million parameters, in fp32. Texts are words drawn by chance from the course's own English "
        "documents.\n"
        "Other work ran on the same cores, so a process often had to wait. Processor seconds leave most of that waiting "
        "out; they are what the lines are drawn through. The load is the number of processes that wanted a core.",
    ]  # fmt: skip
    for key, part in (("adapting", _adapting), ("scoring", _scoring), ("processes", _processes)):
        if found.get(key):
            parts += part(found)
    return "\n\n".join(parts) + "\n"


def _adapting(found):
    rows = found["adapting"]
    head = ["pairs", "processor s", "ms a further pair", "seconds by the clock", "load", "peak MB", "before it MB", "states on disk MB",
            "all on disk MB"]  # fmt: skip
    cells, before = [], None
    for r in rows:
        further = before and 1000 * (r["cpu_seconds"] - before["cpu_seconds"]) / (r["pairs"] - before["pairs"])
        cells.append([f"{r['pairs']:,}", number(r["cpu_seconds"], 1), number(further), number(r["seconds"], 0), number(r["load"], 1),
                      number(r["peak_mb"], 0), number(r["start_mb"], 0), number(r["states_mb"], 1), number(r["disk_mb"], 1)])  # fmt: skip
        before = r
    said = []
    lines = found.get("lines")
    if lines:
        time, memory, disk = (lines[k] for k in ("cpu_seconds", "peak_mb", "disk_mb"))
        said = [
            f"The straight line through the processor seconds: {1000 * time['slope']:.2f} ms a pair, {time['start']:.1f} s where "
            f"it meets no pairs, R² {time['r2']:.5f}. Memory: {1000 * memory['slope']:.1f} MB for 1,000 further pairs. Disk: "
            f"{1000 * disk['slope']:.1f} MB for 1,000 further pairs, R² {disk['r2']:.5f}.",
            f"Counted from these lines, and not measured, 64,000 pairs would take {time['slope'] * 64 / 60 * 1000 + time['start'] / 60:.1f} "
            f"processor minutes and {disk['slope'] * 64000 + disk['start']:,.0f} MB of disk."
            if max(r["pairs"] for r in rows) < 64000 else "",
        ]  # fmt: skip
    return [
        "## Pairs to adapt on",
        "The last 3 layers, one epoch, documents of 30 words in lists of 10, 8 queries a step, 4 lists of dev. Each row is one run "
        "in a process of its own. Disk is what the run's folder holds at its end: cached states and checkpoints.",
        markdown_table(head, cells),
        *filter(None, said),
    ]


def _scoring(found):
    own = found["scoring"]
    rows = own["rows"]
    head = ["pairs written", "processor s", "seconds by the clock", "peak MB so far", "MB at that moment"]
    cells = [[f"{r['pairs']:,}", number(r["cpu_seconds"], 1), number(r["seconds"], 0), number(r["peak_mb"], 0), number(r["now_mb"], 0)]
             for r in rows]  # fmt: skip
    said = []
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        rate = 1000 * (last["cpu_seconds"] - first["cpu_seconds"]) / (last["pairs"] - first["pairs"])
        said = [
            f"From {rows[-2]['pairs']:,} to {last['pairs']:,} pairs the peak rises by {last['peak_mb'] - rows[-2]['peak_mb']:.0f} MB. Before "
            "that it rises because the command takes more pairs at a time, up to about ten seconds of work. A pair "
            f"takes {rate:.2f} ms of processor. More than {own['pairs']:,} pairs were not measured. At this rate 1,000,000 pairs "
            f"take {rate * 1000 / 60:.0f} processor minutes and {own['disk_mb'] / own['pairs'] * 1e6:.0f} MB of results.",
        ]  # fmt: skip
    return [
        "## Pairs to score",
        f"`python -m course_utils score` on a file of {own['pairs']:,} pairs: documents of 8 words, 100 a query. One run, looked at "
        "while it writes: the peak after the first pairs is that of a shorter file.",
        markdown_table(head, cells),
        *said,
    ]


def _processes(found):
    runs, cells, said = found["processes"], [], []
    for what in dict.fromkeys((r["model"], r["work"]) for r in runs):
        one, two = ([r for r in runs if (r["model"], r["work"]) == what and r["processes"] == n] for n in (1, 2))
        if not one or not two:
            continue
        alone, shared = (
            statistics.median(r["cpu_seconds"][0] for r in one),
            statistics.median(max(r["cpu_seconds"]) for r in two),
        )
        clock = [a["seconds"] / b["seconds"] for a, b in zip(one, two, strict=True)]
        ratios = [a["cpu_seconds"][0] / max(b["cpu_seconds"]) for a, b in zip(one, two, strict=True)]
        cells.append([
            *what, f"{one[0]['pairs']:,}", len(clock), number(alone), number(shared), f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})",
            f"{statistics.median(clock):.2f} ({min(clock):.2f} - {max(clock):.2f})",
            f"{min(r['load'] for r in one + two):.1f} - {max(r['load'] for r in one + two):.1f}",
        ])  # fmt: skip
    head = [
        "model",
        "work",
        "pairs",
        "turns",
        "one process, processor s",
        "the slower of two, processor s",
        "times by processor",
        "times by the clock",
        "load",
    ]
    return [
        "## One process and two",
        "The same work in one process and in two under `accelerate launch`, one thread each, in turns; medians, and the least and the "
        "largest in brackets. Loading is not counted. On a machine without GPUs it is `accelerate launch --multi_gpu --num_machines 1 --num_processes 2`: "
        "without `--multi_gpu` accelerate 1.15 starts one process. Two processes share the pairs: each reads all texts, scores half of the "
        "batches, or learns from half of the queries of a step. Nano was measured on a chip without AVX-512, after batches were dealt out evenly by tokens, qwen-4 on another before.",
        markdown_table(head, cells),
        "\"Times by processor\" is the processor seconds of the one over those of the slower of the two: what two free cores would give "
        "where neither waits for the other. \"Times by the clock\" is of this machine at the load beside it.",
        *said,
    ]  # fmt: skip
