"""Run every lesson, leave executed copies, and write one page with a measured before/after table."""

import html
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

from course_utils.cli import options
from course_utils.cli.terminal import aligned
from course_utils.errors import InputError
from course_utils.files import ROOT, check_outputs, whole, write_json
from course_utils.language import _, _language

LESSONS = ROOT / "notebooks"
SMOKE = {"train": 200, "dev": 60, "test": 150, "general": 80}  # queries that the smallest profile measures with


def add(commands):
    """Add the command to the parser."""
    what = _("run every lesson; leave executed copies and a report under build/")
    parser = options.command(commands, "course", what, "course --profile smoke", run)
    parser.add_argument("--profile", choices=["smoke", "laptop", "full"], help=_("default: smoke"))
    parser.add_argument("--out", default="build", help=_("folder for copies and report (default build)"))
    say = _("whose lessons run, and the language of the report (default: that of the session, by COURSE_LANGUAGE)")
    parser.add_argument("--language", choices=["en", "zh"], default=_language(), help=say)
    say = _("leave the executed copies alone, for the site: measure nothing and write no report")
    parser.add_argument("--lessons-only", action="store_true", help=say)


def run(args):
    """Run all lessons; raise InputError naming those that failed."""
    os.environ["COURSE_LANGUAGE"] = args.language
    failed = run_course(args.profile, args.out, args.lessons_only)
    if failed:
        raise InputError("FAILED: {failed}; the lines above say why.", failed=", ".join(failed))


def run_course(profile=None, out="build", lessons_only=False):
    """Execute all lessons, measure the table, write ``out``/index.html; return the names of lessons that failed.

    Lessons and page are in the language of the session; copies of Chinese lessons go to ``out``/lessons/zh.

    On the small profiles two lessons run at a time, each with half of the cores.

    Args:
        profile: smoke, laptop or full; default: COURSE_PROFILE, else smoke.
        out: folder for executed copies, pages and results.
        lessons_only: measure nothing and write nothing but the copies.
    """
    started = time.time()
    profile = profile or os.environ.get("COURSE_PROFILE") or "smoke"
    out = Path(out)
    where = "" if _language() == "en" else "zh"
    lessons = sorted((LESSONS / where).glob("[0-9]*.ipynb"))
    if not lessons:
        raise InputError(
            "There are no lessons in {lessons}: `course` runs from a copy of the project, not from a wheel.",
            lessons=LESSONS / where,
        )
    check_outputs([out / "index.html"], ends=(".html",))
    # The small model gains little from a second core; the full one needs all of them, and the memory.
    workers = 1 if profile == "full" else min(2, os.cpu_count() or 1)
    environment = {**os.environ, "COURSE_PROFILE": profile, "MPLBACKEND": "agg", "COURSE_LANGUAGE": _language()}
    if workers > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    print(
        _("{n_lessons} lessons in the {profile} profile, {workers} at a time; executed copies go to {out}").format(
            n_lessons=len(lessons), profile=profile, workers=workers, out=out / "lessons" / where
        ),
        flush=True,
    )
    ran = []
    with ThreadPoolExecutor(workers) as pool:
        runs = [partial(run_lesson, path, out / "lessons" / where, environment) for path in lessons]
        measures = [] if lessons_only else list(measures_of(profile, out / "measured", environment))
        running, measuring = begin(pool, runs, measures, workers > 1)
        for path, done in zip(lessons, running, strict=True):
            seconds, error = done.result()
            took = _("{seconds} s").format(seconds=f"{seconds:6.0f}")
            print(
                f"  {path.name:32s} {took}", "  " + _("FAILED: {text}").format(text=error) if error else "", flush=True
            )
            ran.append((path, seconds, error))
        failed = [path.name for path, _seconds, error in ran if error]
        if lessons_only:
            return failed
        print(_("measuring before and after, on the bundled model and the course's test topics"), flush=True)
        rows = []
        for done in measuring:
            rows.append(done.result())
            print("  " + "  ".join(cells(*rows[-1])), flush=True)
    write_page(out, profile, ran, rows)
    write_json(out / "run.json", run_record(profile, ran, rows))
    print("\n" + table(rows))
    print(_("\n{time:.0f} s in all. The page: {out}").format(time=time.time() - started, out=out / "index.html"))
    print(_("How to go on: `make lab` opens JupyterLab on the lessons (or: python scripts/run.py lab)."))
    return failed


def run_lesson(path, folder, environment):
    """Execute one notebook, write it and an HTML page to ``folder``; return (seconds, error or "")."""
    import nbclient
    import nbformat
    from nbconvert import HTMLExporter

    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,  # a page has no kernel: it shows the still copy of a panel
        extra_arguments=["--IPKernelApp.log_level=40"],  # no warning that a local kernel talks without encryption
    )  # fmt: skip
    started, error = time.time(), ""
    try:
        client.execute(env=environment)
    except nbclient.exceptions.CellExecutionError as problem:
        error = f"{problem.ename}: {problem.evalue}".splitlines()[0][:200]
    with whole(folder / path.name) as file:
        nbformat.write(notebook, file)
    page = HTMLExporter(language_code=_language()).from_notebook_node(notebook)[0]
    with whole(folder / path.with_suffix(".html").name) as file:
        file.write(page)
    return time.time() - started, error


def begin(pool, runs, measures, mixed):
    """Hand lessons and measurements to the workers; return the futures of both.

    A measurement takes longer than a lesson: ``mixed`` begins each before one of the last lessons, so that no worker is
    left without work while another has a whole one before it.
    """
    running, measuring, left = [], [], list(measures)
    for i, run_one in enumerate(runs):
        if mixed and left and len(runs) - i <= len(left) + 2:
            measuring.append(pool.submit(left.pop(0)))
        running.append(pool.submit(run_one))
    return running, measuring + [pool.submit(one) for one in left]


def measures_of(profile, folder, environment):
    """Yield functions that adapt the bundled model to a trade each, in smoke to those of the session's language."""
    from course_utils.data.grid import LANGUAGES
    from course_utils.profile import PROFILES

    languages = [_language()] if profile == "smoke" else LANGUAGES
    sizes = SMOKE if profile == "smoke" else {"train": PROFILES[profile].queries}
    for domain, language in product(("medical", "legal", "financial"), languages):
        yield partial(measure_trade, domain, language, folder, sizes, environment)


def measure_trade(domain, language, folder, sizes, environment):
    """Run ``adapt`` on one trade in a process of its own; return (name, what it wrote). ``sizes``: queries a part at most."""
    from course_utils.data import bm25_scores, load_domain, subset
    from course_utils.data.report import _rows_of
    from course_utils.evaluation import betrayed, evaluate_scores

    name = f"{domain}-{language}"
    parts = {split: load_domain(domain, language, split) for split in ("train", "dev", "test")}
    parts["general"] = load_domain("general", language, "test")
    parts |= {part: subset(groups, sizes.get(part)) for part, groups in parts.items() if part != "train"}
    command = [
        sys.executable, "-m", "course_utils", "adapt", "--model", "nano", "--max-relevance", "2", "--loss", "both",
    ]  # fmt: skip
    for part, groups in parts.items():
        path = folder / f"{name}-{part}.json"
        write_json(path, _rows_of(groups))
        command += [f"--{part}", path]
    command += [
        "--max-queries", sizes["train"], "--out", folder / name, "--json", folder / f"{name}.json",
    ]  # fmt: skip
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise InputError(
            "adapt failed on {name}: {value}",
            name=name,
            value=(done.stderr.strip().splitlines() or [_("it was killed")])[-1],
        )
    result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    alone = betrayed(parts["train"], parts["test"])[1]
    bm25 = evaluate_scores(bm25_scores(parts["test"]), parts["test"]).summary["ndcg@10"]
    return name, result | {"document_alone": alone, "bm25": bm25}


def run_record(profile, lessons, rows):
    """Return what the site tells of this run: seconds and error of each lesson, and the figures of the table."""
    kept = ("document_alone", "bm25", "low", "high", "train_queries", "test_queries", "seconds")
    ndcg = ("before", "after", "general_before", "general_after")
    measured = {
        name: {k: r[k] for k in kept} | {k: r[k]["ndcg@10"] for k in ndcg} | {"difference": r["delta_ndcg@10"]}
        for name, r in rows
    }
    ran = {path.stem: {"seconds": seconds, "error": error} for path, seconds, error in lessons}
    return {"profile": profile, "lessons": ran, "measured": measured}


def cells(name, r):
    """Return the cells of one row of the table."""
    return [
        name,
        *(f"{value:.3f}" for value in (r["document_alone"], r["bm25"], r["before"]["ndcg@10"], r["after"]["ndcg@10"])),
        f"{r['delta_ndcg@10']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]",
        *(f"{r[part]['ndcg@10']:.3f}" for part in ("general_before", "general_after")),
        *(f"{r[count]}" for count in ("train_queries", "test_queries")),
        f"{r['seconds']:.0f}",
    ]


def heads():
    """Return the headings of the table."""
    first = [_("data"), _("document alone"), "BM25", _("before"), _("after"), _("difference [95 % interval]")]
    general = [_("general before"), _("general after")]
    return [*first, *general, _("training queries"), _("test queries"), _("seconds")]


def table(rows):
    """Return the before/after table as text."""
    return aligned([heads(), *(cells(*row) for row in rows)])


def title(path):
    """Return a lesson's number and the heading that it begins with."""
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    return f"{path.stem[:2]} {''.join(first).partition('# ')[2].partition(chr(10))[0].strip()}"


def write_page(out, profile, lessons, rows):
    """Write ``out``/index.html: the table and links to the executed lessons."""
    body = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th>{''.join(f'<td>{c}</td>' for c in values)}</tr>"
        for name, *values in (cells(*row) for row in rows)
    )
    head = "".join(f"<th scope='col'>{h}</th>" for h in heads())
    where = "" if _language() == "en" else "zh/"
    took = [_("{seconds} s").format(seconds=f"{seconds:.0f}") for _path, seconds, _error in lessons]
    links = "".join(
        f"<li><a href='lessons/{where}{path.stem}.html'>{html.escape(title(path))}</a> ({seconds})</li>"
        for (path, *_more), seconds in zip(lessons, took, strict=True)
    )
    named = _("Teach a reranker a new trade: measured")
    said = _(
        "nDCG@10 of the bundled model before and after training its last three layers, on test topics that it never saw. The "
        'interval is a 95 % paired bootstrap over queries; one seed. "Document alone" is a rule that never sees the query '
        '(random order reaches about 0.46), BM25 matches words. Where an interval holds 0, nothing is settled. "General" is the general '
        "test of the same language: what was forgotten? Profile {profile}; lists of up to 11 candidates."
    ).format(profile=html.escape(profile))
    page = f"""<!doctype html>
<html lang="{"en" if _language() == "en" else "zh-CN"}"><head><meta charset="utf-8"><title>{named}</title>
<style>body{{font:18px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#111}}
table{{border-collapse:collapse}}td,th{{border:1px solid #999;padding:.3rem .7rem;text-align:right}}th{{text-align:left}}</style>
</head><body><h1>{named}</h1>
<p>{said}</p>
<table><tr>{head}</tr>{body}</table>
<h2>{_("The lessons, executed")}</h2><ul>{links}</ul></body></html>
"""
    with whole(Path(out) / "index.html") as file:
        file.write(page)
