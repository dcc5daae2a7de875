"""data table: sizes, overlaps and baselines of the course's data, as the data card shows them."""

from itertools import combinations, product

import numpy as np

from course_utils.data import grid, near
from course_utils.data.negatives import bm25_scores
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate_scores
from course_utils.files import whole
from course_utils.text import normalise

TABLE_START, TABLE_END = "<!-- data table: start -->", "<!-- data table: end -->"


def put(path, text):
    """Put ``text`` between the two marks of the data card at ``path``."""
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, start, rest = card.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not (start and end):
        raise InputError(f"{path} has no lines {TABLE_START} and {TABLE_END} to put the table between.")
    with whole(path) as file:
        file.write(f"{before}{start}\n\n{text}\n\n{end}{after}")


def table_text(folder):
    """Return sizes, overlaps and baselines of all sets as Markdown tables."""
    lines = []
    grids = [grid.read_grid(domain, language, folder) for domain, language in product(grid.DOMAINS, grid.LANGUAGES)]
    lines.append("| set | topics | passages | queries | with 2+ answers | words (zh: characters) a passage | a query |")
    lines.append("|---|---|---|---|---|---|---|")
    for g in grids:
        passages = [p.text for p in g.passages.values()]
        several = sum(len(q.aspects) > 1 for q in g.queries)
        sizes = [np.mean([size(t, g.language) for t in ts]) for ts in (passages, [q.text for q in g.queries])]
        lines.append(
            f"| {g.domain}/{g.language} | {len(g.topics())} | {len(passages)} | {len(g.queries)} | {several} "
            f"| {sizes[0]:.0f} | {sizes[1]:.1f} |"
        )
    lines += ["", "Train / dev / test:", ""]
    lines.append("| set | topics | queries | pairs | candidates a query | relevant share |")
    lines.append("|---|---|---|---|---|---|")
    parts = {(g.domain, g.language): [grid.grid_groups(g, s) for s in grid.SPLITS] for g in grids}
    for g in grids:
        own = parts[g.domain, g.language]
        pairs = [sum(len(x.documents) for x in part) for part in own]
        right = [sum(len(x.positives) for x in part) for part in own]
        lines.append(
            f"| {g.domain}/{g.language} | {slashes(len(g.topics(s)) for s in grid.SPLITS)} | {slashes(map(len, own))} "
            f"| {slashes(pairs)} | {slashes(f'{n / len(p):.1f}' for n, p in zip(pairs, own, strict=True))} "
            f"| {slashes(f'{r / n:.1%}' for r, n in zip(right, pairs, strict=True))} |"
        )
    lines += ["", "Overlap between splits (any two of train, dev, test), and nDCG@10 of the candidate lists:", ""]
    lines.append(
        "| set | same topics | same passages | same queries | near-duplicate passages | near-duplicate queries "
        "| BM25 train / dev / test | random train / dev / test |"
    )
    lines.append("|---|---|---|---|---|---|---|---|")
    for g in grids:
        bm25, chance = zip(*(baselines(part) for part in parts[g.domain, g.language]), strict=True)
        lines.append(
            f"| {g.domain}/{g.language} | {' | '.join(map(str, overlaps(g)))} "
            f"| {slashes(f'{x:.3f}' for x in bm25)} | {slashes(f'{x:.3f}' for x in chance)} |"
        )
    return "\n".join(lines)


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


def baselines(groups):
    """Return nDCG@10 of BM25 and of chance: the exact mean over all orders, which equal scores stand for."""
    equal = [np.zeros(len(g.documents)) for g in groups]
    return [evaluate_scores(scores, groups).summary["ndcg@10"] for scores in (bm25_scores(groups), equal)]
