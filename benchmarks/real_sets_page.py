"""The page of ``benchmarks.real_sets``: what every way gives as it is, and what training on a set gives."""

import numpy as np

from benchmarks import encoder
from benchmarks.common import interval, number, unpacked
from benchmarks.course_trades_page import pooled, shown
from course_utils.data.groups import subset
from course_utils.text import markdown_table

HALF = "-half"  # a way whose recipe keeps "halfway"
DEFAULT = "default"  # the way whose recipe chooses what is kept, and negatives, itself
# Layers that train.
WAYS = {"last1": 1, "last2": 2, "last3": 3, f"last3{HALF}": 3, DEFAULT: 3, "lora": "all", "all": "all"}
BASELINES = ("random", "document alone", "BM25")
ENCODER = "e5"
RULED = "base + rule"


def known(cells, name, *names):
    """Return a cell of a set that holds for all of its test queries as they are now, or None."""
    own = cells.get(name, *names)
    return own if own and len(unpacked(own["values"])) == cells.data["sets"][name] else None


def shared(cells, name, small):
    """Return a function that cuts values of all test queries to those that the encoder was measured on."""
    count = len(unpacked(small["values"]))
    places = subset(list(range(cells.data["sets"][name])), count)
    return lambda values: [values[i] for i in places]


def models_of(cells):
    """Return the names of measured rerankers, in the order they came."""
    own = cells.data["cells"]
    return list(dict.fromkeys(m for name in own for m in own[name] if m not in (*BASELINES, ENCODER)))


def as_they_are(cells):
    """Return the table of everything that was not trained on the sets."""
    models, rows = models_of(cells), []
    for name, count in cells.data["sets"].items():
        row, bm25 = [name, count], known(cells, name, "BM25")
        row += [number((known(cells, name, rule) or {}).get("ndcg@10"), 3) for rule in BASELINES]
        for model in models:
            own = known(cells, name, model, "as it is")
            gap = interval(unpacked(bm25["values"]), unpacked(own["values"])) if own and bm25 else "-"
            row += [number(own["ndcg@10"] if own else None, 3), gap]
        own = cells.get(name, ENCODER)
        row.append(f"{own['ndcg@10']:.3f} ({len(unpacked(own['values']))})" if own else "-")
        for model in models:
            base = known(cells, name, model, "as it is")
            cut = shared(cells, name, own) if own and base else None
            row.append(interval(cut(unpacked(base["values"])), unpacked(own["values"])) if cut else "-")
        rows.append(row)
    heads = [h for m in models for h in (m, f"{m} - BM25 [95 %]")]
    ahead = [f"{encoder.NAME} - {m} [95 %]" for m in models]
    return markdown_table(["set", "queries", *BASELINES, *heads, f"{encoder.NAME} (queries)", *ahead], rows)


def runs_of(cells, name, model, way):
    """Return the cells of all seeds of a way that hold."""
    return [r for r in (known(cells, name, model, way, seed) for seed in cells.get(name, model, way) or {}) if r]


def mean_of(runs):
    """Return the values a query, means over the seeds."""
    return np.mean([unpacked(r["values"]) for r in runs], axis=0)


def adapted(cells):
    """Return the table of what training on a set's train file gave, or nothing."""
    rows = []
    for name in cells.data["sets"]:
        for model in models_of(cells):
            base, small = known(cells, name, model, "as it is"), cells.get(name, ENCODER)
            for way in WAYS:
                runs = runs_of(cells, name, model, way)
                if not runs or not base:
                    continue
                mean = mean_of(runs)
                ruled = known(cells, name, model, RULED)
                lift = cells.get(name, "document alone")["ndcg@10"] - cells.get(name, "random")["ndcg@10"]
                cut = shared(cells, name, small) if small else None
                lost = [r["general"] for r in runs if r["general"] is not None]
                rows.append([
                    name, model, way, len(runs), number(base["ndcg@10"], 3), number(mean.mean(), 3),
                    interval(unpacked(base["values"]), mean), f"{lift:+.3f}", number(ruled and ruled["ndcg@10"], 3),
                    interval(unpacked(ruled["values"]), mean) if ruled else "-",
                    interval(unpacked(small["values"]), cut(mean)) if small else "-",
                    f"{np.mean(lost):+.3f}" if lost else "-",
                    number(np.median([r["seconds"] for r in runs]) / 60, 1), number(max(r["peak_mb"] for r in runs), 0),
                ])  # fmt: skip
    if not rows:
        return ""
    head = ["set", "model", "way", "seeds", "as it is", "adapted", "gain [95 %]", "document alone - random", RULED]
    head += ["adapted - it [95 %]", "adapted - encoder [95 %]", "general", "minutes", "peak MB"]
    return "\n\n## Adapted on the train file\n\n" + filled(head, rows)


def means(cells, name, model):
    """Return {way: values a query} of a model on a set: as it is, with the rule, adapted (means over seeds)."""
    runs = {way: [own] for way in ("as it is", RULED) if (own := known(cells, name, model, way))}
    runs |= {way: runs_of(cells, name, model, way) for way in WAYS}
    return {way: mean_of(own) for way, own in runs.items() if own}


def on_average(cells):
    """Return the table of means over the sets that a way was trained on, or nothing; queries of each set are drawn again."""
    rows = []
    for model in models_of(cells):
        found = [means(cells, name, model) for name in cells.data["sets"]]
        for way in (RULED, *WAYS):
            own = [f for f in found if way in f and "as it is" in f]
            if len(own) < 2:
                continue
            row = [model, way, len(own), *(number(np.mean([f[w].mean() for f in own]), 3) for w in ("as it is", way))]
            for other in ("as it is", RULED, "last3"):
                pairs = [f[way] - f[other] for f in own if other in f and other != way]
                row.append(shown(pooled(pairs)) if len(pairs) == len(own) else "-")
            rows.append(row)
    if not rows:
        return ""
    head = ["model", "way", "sets", "as it is", "with it", "gain [95 %]", f"- ({RULED})", "- last3"]
    return "\n\n## On average\n\n" + filled(head, rows)


def filled(head, rows):
    """Return a Markdown table without the columns in which nothing was measured."""
    places = [i for i in range(len(head)) if any(row[i] != "-" for row in rows)]
    return markdown_table([head[i] for i in places], [[row[i] for i in places] for row in rows])


def page(cells, title="Ranking sets, side by side", words=""):
    """Return the page as Markdown; ``words`` stand above the facts."""
    return f"# {title}\n\n{words}{cells.data['facts']}\n\n## As they are\n\n{as_they_are(cells)}{adapted(cells)}{on_average(cells)}\n"
