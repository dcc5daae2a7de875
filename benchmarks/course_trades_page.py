"""The page of ``benchmarks.course_trades``."""

import numpy as np

from benchmarks.common import number, unpacked
from course_utils.data import Group, read_cases, subset
from course_utils.evaluation import Difference, by_slice, paired_bootstrap
from course_utils.text import markdown_table

TESTS = {"questions": "new questions to known documents", "test": "new topics"}


def values(own):
    """Return one value a query of a cell."""
    return np.array(unpacked(own["values"]))


def mean_of(runs, part):
    """Return one value a query, the mean over seeds."""
    return np.mean([values(run[part]) for run in runs], axis=0)


def shown(gap):
    """Return a Difference as a table cell."""
    return f"{gap.mean:+.3f} {span(gap)}"


def span(gap):
    """Return the interval of a Difference as a table cell."""
    return f"[{gap.low:+.3f}, {gap.high:+.3f}]"


def runs_of(cells, name, way="adapted"):
    """Return the cells of a set adapted one way, one a seed."""
    return list((cells.get(name, way) or {}).values())


def gains(cells, part):
    """Return the table of one test: what needs no model, the base, the base plus the rule, adapted, its gain."""
    rows = []
    for name in cells.data["sizes"]:
        own, runs = cells.get(name, "as it is"), runs_of(cells, name)
        if not own:
            continue
        base, row = values(own["base"][part]), [name, len(values(own["base"][part]))]
        row += [number(cells.get(name, kind, part)["ndcg@10"], 3) for kind in ("random", "document alone", "BM25")]
        row += [number(own["base"][part]["ndcg@10"], 3), number(own["rule"][part]["ndcg@10"], 3)]
        if runs:
            after = mean_of(runs, part)
            topics = cells.data["topics"][name][part]
            seeds = ", ".join(f"{run[part]['ndcg@10']:.3f}" for run in runs)
            row += [f"{after.mean():.3f} ({seeds})", shown(paired_bootstrap(base, after))]
            row.append(span(paired_bootstrap(base, after, topics=topics)))
            row.append(shown(paired_bootstrap(values(own["rule"][part]), after)))
        rows.append(row + ["-"] * (11 - len(row)))
    heads = ["set", "queries", "random", "document alone", "BM25", "base", "base + rule", "adapted (seeds)"]
    return markdown_table(
        [*heads, "adapted - base [95 % over queries]", "[over topics]", "adapted - (base + rule)"], rows
    )


def elsewhere(cells):
    """Return the table of what the same adapted models gain on other lists."""
    rows = []
    for name in cells.data["sizes"]:
        own, runs = cells.get(name, "as it is"), runs_of(cells, name)
        if not own or not runs:
            continue
        gap = {
            p: paired_bootstrap(values(own["base"][p]), mean_of(runs, p))
            for p in own["base"]
        }  # fmt: skip
        others = [p for p in gap if p not in (*TESTS, "general")]
        rows.append([name, shown(gap["test"]), *(f"{p}: {shown(gap[p])}" for p in others), shown(gap["general"])])
    heads = ["adapted to", "own new topics", "another trade", "the third trade", "general test"]
    return markdown_table(heads, rows) if rows else ""


def pooled(lists, topics=None):
    """Return the mean of the means of some lists as a Difference; each list's queries, or its topics, are drawn again.

    Args:
        lists: arrays of one gain a query.
        topics: for each list the topic of each query; None draws queries.
    """
    rng, parts = np.random.default_rng(0), []
    for i, gain in enumerate(lists):
        place = np.unique(topics[i], return_inverse=True)[1] if topics else np.arange(len(gain))
        parts.append((np.bincount(place, gain), np.bincount(place)))  # sums and counts, one a topic
    means = []
    for _ in range(2000):
        drawn = [rng.integers(len(sums), size=len(sums)) for sums, _ in parts]
        means.append(np.mean([s[d].sum() / n[d].sum() for (s, n), d in zip(parts, drawn, strict=True)]))
    low, high = np.quantile(means, [0.025, 0.975])
    flat = np.concatenate(lists)
    return Difference(np.mean([g.mean() for g in lists]), low, high, int((flat > 0).sum()), int((flat < 0).sum()))


def at_home(cells):
    """Return the table of models adapted to a trade beside those adapted to the other two, on the same new-topic queries.

    What all of them learned, the form of such lists, stands on both sides; what is left between them is the trade.
    """
    rows, gaps, topics = [], [], []
    for name in cells.data["sizes"]:
        trade, language = name.split("-")
        others = [n for n in cells.data["sizes"] if n != name and n.endswith(f"-{language}")]
        guests = [mean_of(runs_of(cells, n), trade) for n in others if runs_of(cells, n)]
        if not guests or not runs_of(cells, name):
            continue
        places = subset(list(range(len(cells.data["topics"][name]["test"]))), len(guests[0]))
        base, own = (
            np.asarray(v)[places]
            for v in (values(cells.get(name, "as it is")["base"]["test"]), mean_of(runs_of(cells, name), "test"))
        )
        away = np.mean(guests, axis=0)
        gaps.append(own - away)
        topics.append([cells.data["topics"][name]["test"][i] for i in places])
        row = [name, len(places), *(number(v.mean(), 3) for v in (base, away, own))]
        by_topic = paired_bootstrap(away, own, topics=topics[-1])
        rows.append([*row, shown(paired_bootstrap(away, own)), span(by_topic)])
    if not rows:
        return ""
    row = ["mean of all", sum(map(len, gaps)), "-", "-", "-"]
    rows.append([*row, shown(pooled(gaps)), span(pooled(gaps, topics))])
    heads = ["new topics of", "queries", "base", "adapted to the other trades", "adapted to this one"]
    return markdown_table([*heads, "difference [95 % over queries]", "[over topics]"], rows)


def mean_gains(cells):
    """Return a sentence with two means over the sets: the gain on their own new topics, and on the other trades' lists.

    Queries of each list are drawn again; a list that two adapted models meet is drawn once for both.
    """
    own, others = {}, {}
    for name in cells.data["sizes"]:
        base, runs = cells.get(name, "as it is"), runs_of(cells, name)
        for part in base["base"] if base and runs else ():
            gain = mean_of(runs, part) - values(base["base"][part])
            if part == "test":
                own[name] = [gain]
            elif part not in (*TESTS, "general"):
                others.setdefault((part, name.split("-")[1]), []).append(gain)
    if not own:
        return ""
    said = [shown(pooled([np.mean(gains, axis=0) for gains in lists.values()])) for lists in (own, others)]
    return f"Means: own new topics {said[0]}, the other trades' lists {said[1]}."


def beside(cells, way):
    """Return tables of the default beside another way to adapt, also on the general test."""
    tables = []
    for part, words in {**TESTS, "general": "general test"}.items():
        rows, differences, gained = [], {}, {}
        for name in cells.data["sizes"]:
            own, runs, others = cells.get(name, "as it is"), runs_of(cells, name), runs_of(cells, name, way)
            if not own or not runs or not others:
                continue
            base, other, after = values(own["base"][part]), mean_of(others, part), mean_of(runs, part)
            lists = name.split("-")[1] if part == "general" else name  # three models meet the same general lists
            differences.setdefault(lists, []).append(after - other)
            gained.setdefault(lists, []).append(after - base)
            ends = [number(v.mean(), 3) for v in (base, other, after)]
            pairs = ((base, other), (base, after), (other, after))
            rows.append([name, *ends, *(shown(paired_bootstrap(*pair)) for pair in pairs)])
        if not rows:
            return ""
        means = [shown(pooled([np.mean(own, axis=0) for own in found.values()])) for found in (gained, differences)]
        rows.append(["mean of all", "-", "-", "-", "-", *means])
        head = ["adapted to", "base", way, "default", f"{way} - base", "default - base", f"default - {way}"]
        tables.append(f"{words[0].upper()}{words[1:]}:\n\n{markdown_table(head, rows)}")
    return "\n\n".join(tables)


def slices(cells, part):
    """Return the table of gains by kind of knowledge, all trades and languages together."""
    before, after, groups, kinds = [], [], [], {}
    for name in cells.data["sizes"]:
        own, runs = cells.get(name, "as it is"), runs_of(cells, name)
        if own and runs:
            before += list(values(own["base"][part]))
            after += list(mean_of(runs, part))
            groups += [Group(f"{name} {q}", (), ()) for q in cells.data["queries"][name][part]]
            kinds.update({f"{name} {q}": kind for q, kind in read_cases(*name.split("-")).slices().items()})
    found = by_slice(before, after, groups, kinds)
    start = {k: np.mean([b for b, g in zip(before, groups, strict=True) if kinds[g.query] == k]) for k in found}
    counts = {k: sum(kinds[g.query] == k for g in groups) for k in found}
    rows = [[k, counts[k], number(start[k], 3), shown(gap)] for k, gap in found.items()]
    return markdown_table(["what the query turns on", "queries", "base", "gain [95 %]"], rows) if rows else ""


def page(cells):
    """Return the whole page."""
    text = [
        "# Adapting to the course's trades, beside yardsticks that cannot be fooled",
        "Made by `python -m benchmarks.course_trades`. " + cells.data["facts"],
        "Document alone: a rule that never reads the query, trained on train lists. Base + rule: its scores added to the base's, "
        "with the weight that dev chooses. Adapted: by the defaults, which for so many training queries keep the weights half of the "
        "way and draw 2 negatives a query and epoch. Best epoch: the one that is best on dev is kept, 4 negatives. Half with 4: half of the "
        "way kept, 4 negatives (figures from the runs of the best epoch: the training is the same). Gains are means over seeds; intervals are 95 %, paired bootstrap.",
    ]
    for part, words in TESTS.items():
        text += [f"## {words[0].upper()}{words[1:]}", gains(cells, part)]
    learned = {
        "The same adapted models on other lists": "\n\n".join(filter(None, (elsewhere(cells), mean_gains(cells))))
    }
    learned["The default beside the best epoch"] = beside(cells, "best epoch")
    learned["The default beside half of the way with 4 negatives"] = beside(cells, "half with 4")
    learned["The trade's own models beside the others, on the same queries"] = at_home(cells)
    learned |= {f"By kind of knowledge: {words}": slices(cells, part) for part, words in TESTS.items()}
    for heading, table in learned.items():
        text += [f"## {heading}", table] if table else []
    return "\n\n".join(t for t in text if t) + "\n"
