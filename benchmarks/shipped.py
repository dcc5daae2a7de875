"""Measure what is shipped: the rerank server with 32 clients, search among 10,000 passages, long documents.

    python -m benchmarks.shipped [--model nano] [--requests 1000] [--clients 32] [--queries 20] [--threads 1]

On a machine that also does other work leave --threads at 1: two threads that share busy cores wait for each other.

Each of the three is kept in shipped.json as soon as it is measured, so a run that is stopped goes on; the page shipped.md is
written beside it. Long documents are made from the course's passages: 300 to 1,500 words of other trades' texts
around one candidate, which stands in the last quarter.
"""

import argparse
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.common import HERE, machine_line, model_folder, model_key, quiet, write_page
from course_utils.data import Group, load_domain, read_grid, subset
from course_utils.evaluation.measure import evaluate_scores, paired_bootstrap
from course_utils.files import write_json
from course_utils.model import Reranker
from course_utils.ship import SearchIndex, build_index, score_long, search
from course_utils.text import CJK, markdown_table

DOCUMENTS = 5  # of a request
TRADES = ("medical", "legal", "financial")
START = (
    "import sys, torch; torch.set_num_threads(int(sys.argv[3]))\n"
    "from course_utils.model import Reranker; from course_utils.ship import serve\n"
    "serve(Reranker.load(sys.argv[1], device='cpu', quiet=True), port=int(sys.argv[2]))"
)


def measure_server(folder, requests, clients, threads):
    """Return rows of (what, figure) for ``requests`` requests of 5 documents by ``clients`` clients at once."""
    import httpx

    groups = [g for t in TRADES for language in ("en", "zh") for g in load_domain(t, language, "test")]
    asked = [groups[i % len(groups)] for i in range(requests)]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(folder), str(port), str(threads)], stdout=subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"
    try:
        process.stdout.readline()
        for _ in range(600):
            try:
                httpx.get(url + "/health", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        memory = psutil.Process(process.pid).memory_info().rss
        client = httpx.Client(trust_env=False, timeout=300, limits=httpx.Limits(max_connections=clients))

        def ask(group):
            body = {"query": group.query, "documents": list(group.documents[:DOCUMENTS]), "raw_scores": True}
            started = time.perf_counter()
            answer = client.post(url + "/v1/rerank", json=body)
            answer.raise_for_status()
            return time.perf_counter() - started, answer.json()["results"]

        ask(asked[0])
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(ask, asked))
        seconds = time.perf_counter() - started
        peak = psutil.Process(process.pid).memory_info().rss
        batches = float(client.get(url + "/metrics").text.split("rerank_batch_count ")[1].split()[0])
    finally:
        process.terminate()
        process.wait()
    reranker = Reranker.load(folder, device="cpu", quiet=True)
    true = {g.query: reranker.score_groups([(g.query, g.documents[:DOCUMENTS])])[0] for g in dict.fromkeys(asked[:200])}
    gap = max(
        abs(r["relevance_score"] - true[g.query][r["index"]])
        for g, (_, results) in zip(asked[:200], answers[:200], strict=True)
        for r in results
    )
    took = sorted(t for t, _ in answers)
    return [
        (f"requests of {DOCUMENTS} documents", f"{requests:,} by {clients} clients"),
        ("throughput", f"{requests / seconds:.1f} requests/s, {DOCUMENTS * requests / seconds:,.0f} documents/s"),
        ("latency: median, 95 %, longest", f"{statistics.median(took):.2f} s, {took[int(0.95 * requests)]:.2f} s, {took[-1]:.2f} s"),
        ("requests in a batch, mean", f"{(requests + 1) / batches:.1f}"),
        ("memory of the server: at the start, at the end", f"{memory / 2**20:,.0f} MB, {peak / 2**20:,.0f} MB"),
        ("largest difference from scores here", f"{gap:.1e}"),
    ]  # fmt: skip


def measure_search(reranker, passages=10_000, questions=20):
    """Return rows of (what, figure) for an index of the course's passages, numbered until there are enough."""
    texts = [p.text for t in TRADES for language in ("en", "zh") for p in read_grid(t, language).passages.values()]
    asked = [g.query for t in TRADES for language in ("en", "zh") for g in subset(load_domain(t, language, "test"), 4)]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "rows.jsonl", Path(folder) / "index"
        lines = (json.dumps({"text": f"{texts[i % len(texts)]} ({i})"}) + "\n" for i in range(passages))
        source.write_text("".join(lines), encoding="utf-8")
        started = time.perf_counter()
        count, _ = build_index(source, out, size=400)
        built = time.perf_counter() - started
        started = time.perf_counter()
        index = SearchIndex(out)
        opened = time.perf_counter() - started
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
        took = {}
        for first in (0, 20, 50):
            search(index, asked[0], reranker if first else None, first=first or 5)
            seconds = []
            for question in asked[:questions]:
                started = time.perf_counter()
                search(index, question, reranker if first else None, first=first or 5)
                seconds.append(time.perf_counter() - started)
            took[first] = statistics.median(seconds), max(seconds)
    named = {0: "BM25 alone", 20: "20 to the reranker", 50: "50 to the reranker"}
    return [
        ("passages, size on disk", f"{count:,}, {size / 1e6:.1f} MB"),
        ("building, opening", f"{built:.1f} s, {opened * 1000:.0f} ms"),
        *((f"a question, {named[f]}: median, longest", f"{a:.3f} s, {b:.3f} s") for f, (a, b) in took.items()),
    ]


def words(text):
    """Return the words of a text; two Chinese characters count as one."""
    return len(re.findall(rf"[^\W{CJK}_]+", text)) + 0.5 * len(re.findall(f"[{CJK}]", text))


def long_groups(queries, seed=0):
    """Return (groups, the same with each candidate late in a document of 300 to 1,500 words)."""
    random_, short, long = random.Random(seed), [], []
    for trade in TRADES:
        for language in ("en", "zh"):
            others = [p.text for t in TRADES if t != trade for p in read_grid(t, language).passages.values()]
            for g in subset(load_domain(trade, language, "test"), queries):
                documents = []
                for own in g.documents:
                    target, around = random_.uniform(300, 1500), []
                    while sum(map(words, around)) + words(own) < target:
                        around.append(random_.choice(others))
                    place = round(len(around) * random_.uniform(0.75, 1))
                    documents.append("\n".join([*around[:place], own, *around[place:]]))
                short.append(g)
                long.append(Group(g.query, tuple(documents), g.relevance))
    return short, long


def measure_long(reranker, queries):
    """Return rows of (way, nDCG@10, difference from cutting with its interval, seconds)."""
    short, long = long_groups(queries)
    ways = {
        "the candidates alone, without the text around them": lambda: reranker.score_groups(short),
        f"cut at {reranker.max_length} tokens": lambda: reranker.score_groups(long),
        "pieces of 60 words": lambda: score_long(reranker, long, 60)[0],
        "pieces of 120 words": lambda: score_long(reranker, long, 120)[0],
        "pieces of 200 words": lambda: score_long(reranker, long, 200)[0],
    }
    found, rows = {}, []
    for name, way in ways.items():
        started = time.perf_counter()
        found[name] = evaluate_scores([np.asarray(s) for s in way()], short), time.perf_counter() - started
        print(name, found[name][0].summary["ndcg@10"], flush=True)
    cut = found[f"cut at {reranker.max_length} tokens"][0].per_query()
    for name, (run, seconds) in found.items():
        gain = paired_bootstrap(cut, run.per_query())
        rows.append((name, f"{run.summary['ndcg@10']:.3f}", f"[{gain.low:+.3f}, {gain.high:+.3f}]", f"{seconds:.0f}"))
    size = statistics.mean(words(d) for g in long for d in g.documents)
    return rows, f"{len(long)} queries, {sum(len(g.documents) for g in long)} documents of {size:.0f} words on average"


def measured(path, of, work):
    """Return the parts at ``path``; each that is not there for ``of`` is measured, and kept as soon as it is."""
    parts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, measure in work.items():
        if parts.get(name, {}).get("of") != of:
            load = psutil.getloadavg()[0]
            parts[name] = {"of": of, "load": load, **measure()}
            print(f"{name}\n{markdown_table(parts[name]['head'], parts[name]['rows'])}", flush=True)
            write_json(path, parts)
            write_page(path.with_suffix(".md"), page(parts))
    return parts


def page(parts):
    """Return the page of the parts that were measured."""
    out = [f"# What is shipped, measured\n\n`python -m benchmarks.shipped`: {next(iter(parts.values()))['of'][0]}."]
    for name, part in parts.items():
        what = f"{part['what']}. " if part.get("what") else ""
        head = f"{what}Load of the machine by other work at the start: {part['load']:.1f}."
        out.append(f"## {name}\n\n{head}\n\n{markdown_table(part['head'], part['rows'])}")
    return "\n\n".join(out) + "\n"


def main(argv=None):
    """Measure what is not kept yet and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    for name, default in (("requests", 1000), ("clients", 32), ("queries", 20), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, default=HERE / "shipped.json", metavar="OUT")
    options = parser.parse_args(argv)
    quiet()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(options.threads)
    folder = model_folder(options.model)
    reranker = Reranker.load(folder, max_length=512, device="cpu", quiet=True)
    of = [f"model {options.model} ({model_key(folder)}), {machine_line(options.threads)}", options.requests, options.clients, options.queries]  # fmt: skip

    def long():
        rows, what = measure_long(reranker, options.queries)
        return {
            "rows": rows,
            "what": what,
            "head": ["way", "nDCG@10", "95 % of the difference from cutting", "seconds"],
        }

    two = ["what", "measured"]
    work = {
        "Search": lambda: {"rows": measure_search(reranker), "head": two},
        "The server": lambda: {
            "rows": measure_server(folder, options.requests, options.clients, options.threads), "head": two,
        },
        "Long documents, the answer late": long,
    }  # fmt: skip
    measured(options.json, of, work)


if __name__ == "__main__":
    main()
