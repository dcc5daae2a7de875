"""data table: sizes, overlaps and baselines of the course's data, as the data card shows them."""

from collections import Counter
from itertools import combinations, product
from pathlib import Path

import numpy as np

from course_utils.data import bm25_scores, grid, near, read_cases
from course_utils.data.cases import PARTS
from course_utils.errors import InputError
from course_utils.evaluation import betrayed, evaluate_scores
from course_utils.files import whole
from course_utils.text import markdown_table, normalise

TABLE_START, TABLE_END = "<!-- data table: start -->", "<!-- data table: end -->"


def put(path, text):
    """Put ``text`` between the two marks of the data card at ``path``."""
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, start, rest = card.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not (start and end):
        raise InputError(
            "{path} has no lines {table_start} and {table_end} to put the table between.",
            path=path,
            table_start=TABLE_START,
            table_end=TABLE_END,
        )
    with whole(path) as file:
        file.write(f"{before}{start}\n\n{text}\n\n{end}{after}")


def table_text(folder):
    """Return sizes, overlaps and baselines of all sets as Markdown tables."""
    grids = [grid.read_grid(domain, language, folder) for domain, language in product(grid.DOMAINS, grid.LANGUAGES)]
    lists = {f"{g.domain}/{g.language}": {s: grid.grid_groups(g, s) for s in grid.SPLITS} for g in grids}
    trades = [
        read_cases(g.domain, g.language, folder)
        for g in grids
        if (Path(folder) / g.domain / g.language / "cases.md").is_file()
    ]
    own = {f"{c.domain}/{c.language}": {p: c.groups(p) for p in PARTS} for c in trades}
    parts = [grid_sizes(grids), grid_lists(lists), grid_overlaps(grids)]
    if trades:
        parts += ["Lists of the trades (`cases.md`):", case_sizes(trades, own)]
    parts += [
        "What a rule finds that never sees the query (trained on train lists; nDCG@10, in brackets random order), and BM25:",
        blind(lists, own),
    ]
    return "\n\n".join(parts)


def grid_sizes(grids):
    """Return the table of topics, passages and queries of the grids."""
    rows = []
    for g in grids:
        passages = [p.text for p in g.passages.values()]
        several = sum(len(q.aspects) > 1 for q in g.queries)
        sizes = [np.mean([size(t, g.language) for t in ts]) for ts in (passages, [q.text for q in g.queries])]
        counts = [len(g.topics()), len(passages), len(g.queries), several]
        rows.append([f"{g.domain}/{g.language}", *counts, f"{sizes[0]:.0f}", f"{sizes[1]:.1f}"])
    words = "words (zh: characters) a passage"
    return markdown_table(["grid", "topics", "passages", "queries", "with 2+ answers", words, "a query"], rows)


def grid_lists(lists):
    """Return the table of the grids' candidate lists."""
    rows = []
    for name, own in lists.items():
        pairs = [sum(len(g.documents) for g in part) for part in own.values()]
        candidates = slashes(f"{n / len(part):.1f}" for n, part in zip(pairs, own.values(), strict=True))
        rows.append([name, slashes(map(len, own.values())), slashes(pairs), candidates])
    return markdown_table(["grid: train / dev / test", "queries", "pairs", "candidates a query"], rows)


def grid_overlaps(grids):
    """Return the table of what crosses the splits of the grids: nothing."""
    rows = [[f"{g.domain}/{g.language}", *overlaps(g)] for g in grids]
    near_ = ["near-duplicate passages", "near-duplicate queries"]
    return markdown_table(["grid: in two splits", "topics", "passages", "queries", *near_], rows)


def case_sizes(trades, lists):
    """Return the table of families, passages and queries of the trades' own lists."""
    rows = []
    for c in trades:
        kinds = Counter(q.kind for q in c.queries)
        partly = sum(1 in q.grades.values() and 2 in q.grades.values() for q in c.queries)
        messy = ", ".join(f"{n} {k}" for k, n in kinds.items() if k)
        own = lists[f"{c.domain}/{c.language}"]
        counts = [len(c.topics()), len({p.family for p in c.passages}), len(c.passages), kinds[""], partly]
        rows.append([f"{c.domain}/{c.language}", *counts, messy, slashes(map(len, own.values()))])
    sizes = ["topics", "families", "passages", "plain queries", "with a partial answer", "messy queries"]
    return markdown_table(["trade", *sizes, "train / dev / test / questions"], rows)


def blind(lists, trades):
    """Return the table of what documents alone give away, list by list: every list of the course."""
    rows = []
    for kind, sets in (("grid", lists), ("cases", trades)):
        for name, own in sets.items():
            row = [f"{name} ({kind})"]
            for part in ("dev", "test", "questions"):
                if part not in own:
                    row += ["-", "-"]
                    continue
                chance, rule, _ = betrayed(own["train"], own[part])
                bm25 = evaluate_scores(bm25_scores(own[part]), own[part]).summary["ndcg@10"]
                row += [f"{rule:.3f} ({chance:.3f})", f"{bm25:.3f}"]
            rows.append(row)
    heads = [h for part in ("dev", "test", "questions") for h in (f"{part}: document alone", f"{part}: BM25")]
    return markdown_table(["list", *heads], rows)


def slashes(values):
    """Return values as "a / b / c"."""
    return " / ".join(str(v) for v in values)


def size(text, language):
    """Return the words of an English text, the characters of a Chinese one."""
    return len("".join(text.split())) if language == "zh" else len(text.split())


def overlaps(g):
    """Return how many (topics, passages, queries, near-duplicate passages, near-duplicate queries) cross splits."""
    counts = np.zeros(5, dtype=int)

    def texts(split):
        return (
            g.topics(split),
            [p.text for p in g.passages.values() if g.splits[p.topic] == split],
            [q.text for q in g.queries if g.splits[q.topic] == split],
        )

    for a, b in combinations(map(texts, grid.SPLITS), 2):
        same = [len({*map(normalise, x)} & {*map(normalise, y)}) for x, y in zip(a, b, strict=True)]
        close = [
            sum(normalise(x) != normalise(y) for x, y, _ in near.near_duplicates(a[i], b[i], **settings))
            for i, settings in ((1, near.DOCUMENTS), (2, near.QUERIES))
        ]
        counts += [*same, *close]
    return counts.tolist()
