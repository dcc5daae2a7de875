"""evaluate: measure models on labelled pairs, side by side, query by query."""

import sys
from contextlib import redirect_stdout

import numpy as np

from course_utils.cli import options, reading, record
from course_utils.cli.terminal import aligned
from course_utils.errors import InputError
from course_utils.files import _write_lines, check_outputs
from course_utils.language import _

RULE = "document alone"
METRICS = ("ndcg@10", "mrr@10", "map", "accuracy", "f1")


def add(commands):
    """Add the command to the parser."""
    example = "evaluate --model nano --model adapted/model --bm25 --data test.json --worst 5"
    parser = options.command(commands, "evaluate", _("measure models on labelled pairs"), example, run)
    add = parser.add_argument
    add("--data", required=True, metavar="E", help=_("labelled pairs, any file that data convert reads"))
    options.add_grades(parser)
    options.add_model(parser, several=True)
    add("--bm25", action="store_true", help=_("measure BM25 on the same lists, too"))
    add(
        "--rule",
        metavar="T",
        help=_(
            "measure a rule that reads documents alone, too; it learns from these labelled pairs, your training file"
        ),
    )
    add("--worst", type=int, metavar="N", help=_("print the N queries that the first model ranks worst"))
    add(
        "--per-query",
        metavar="FILE",
        help=_("write a JSON line a query: nDCG@10 and the rank of the first right document"),
    )
    add("--seed", type=int, default=0, metavar="S", help=_("for the intervals"))
    options.add_long_documents(parser)
    reading.add_reading(parser)
    add("--json", metavar="R", help=_("write the measurements here; - is standard output"))


def run(args):
    """Print the metrics; return what is written."""
    names = list(dict.fromkeys(args.model))
    if len(names) < len(args.model):
        raise InputError("A model is named twice; name each once.")
    check_outputs([args.json, args.per_query], [args.data, args.rule, *names])
    kept, groups = record.Record(args), reading.read(args, args.data)
    groups, found, counts = _measured(args, names, groups, kept)
    rows = [_row(name, own, next(iter(found.values())), args.seed) for name, own in found.items()]
    print(_table(rows) if len(rows) > 1 else _line(rows[0]))
    kept.data("data", args.data, counts)
    kept.few("test", counts.kept)
    kept.alike(next(iter(found.values())).scores)
    worst = _worst(groups, next(iter(found.values())), args.worst or 0)
    for w in worst:
        print(f'\nnDCG@10 {w["ndcg@10"]:.3f}  "{w["query"]}"', _('  at {rank}, right: {right}').format(rank=w['rank'], right=w['right']),
              _("  at 1: {first}").format(first=w["first"]), sep="\n")  # fmt: skip
    if args.per_query:
        _write_lines(args.per_query, _queries(groups, found))
    result = {**rows[0]["metrics"], "queries": counts.kept, "pairs": counts.documents, "models": rows}
    return {**result, **({"worst": worst} if args.worst else {}), "run": kept.finish()}


def _measured(args, names, groups, kept):
    """Return (the groups that all models can rank, {name: Evaluation}, the Counts)."""
    from course_utils.data import bm25_scores, usable
    from course_utils.evaluation import document_alone, evaluate, evaluate_scores

    train = _rule_lists(args, groups, kept) if args.rule else ()
    scored, counts, stay = {}, None, {id(g) for g in groups}
    for name in names:
        with redirect_stdout(sys.stderr):
            reranker = options.load(args, name=name)
        if not scored:
            kept.model(reranker)
        done, own = evaluate(reranker, groups, sys.stderr.isatty(), args.long_documents), usable(groups, reranker)[0]
        scored[name] = dict(zip(map(id, own), done.scores, strict=True)), done.counts.cut
        counts = counts or done.counts
        stay &= set(scored[name][0])
    left = [g for g in groups if id(g) in stay]
    found = {name: evaluate_scores([own[id(g)] for g in left], left) for name, (own, _) in scored.items()}
    for name, (_counts, cut) in list(scored.items())[1:]:
        if cut:
            kept.warn(_("{name}: {cut} documents were cut.").format(name=name, cut=cut))
    if len(left) < counts.kept:
        kept.warn(
            _("{kept} more queries are left out: not every model can read them.").format(kept=counts.kept - len(left))
        )
    if args.bm25:
        found["BM25"] = evaluate_scores(bm25_scores(left), left)
    if args.rule:
        found[RULE] = evaluate_scores(document_alone(train, left), left)
    return left, found, counts


def _rule_lists(args, groups, kept):
    """Return the lists that the rule learns from; refuse before anything is measured what it cannot learn from."""
    from course_utils.data import check_no_leak, rankable, subset, usable
    from course_utils.evaluation.rules import BLIND

    train = rankable(reading.read(args, args.rule))
    if not train:
        raise InputError("{file}: no list with a right and a wrong document, so a rule learns nothing.", file=args.rule)
    check_no_leak(train, groups, (args.rule, args.data))
    kept.data("rule", args.rule, usable(train)[1])
    return subset(train, BLIND)


def _row(name, own, first, seed):
    """Return the figures of one model: metrics, the interval of its nDCG@10, the difference to the first model."""
    from course_utils.evaluation import compare, paired_bootstrap

    values = own.per_query()
    mean = paired_bootstrap(np.zeros(len(values)), values, seed=seed)
    # The scores of these have no border between right and wrong.
    metrics = {m: v for m, v in own.summary.items() if name not in ("BM25", RULE) or m not in ("accuracy", "f1")}
    row = {"model": options.shown(name), "metrics": metrics, "low": mean.low, "high": mean.high}
    if own is not first:
        gap = compare(first, own, seed=seed)
        row["difference"] = {"mean": gap.mean, "low": gap.low, "high": gap.high, "wins": gap.wins, "losses": gap.losses}
    return row


def _line(row):
    shown = "  ".join(f"{m} {row['metrics'][m]:.3f}" for m in METRICS)
    return _("{shown}  (95 % interval of ndcg@10: {low:.3f} to {high:.3f})").format(
        shown=shown, low=row["low"], high=row["high"]
    )


def _table(rows):
    lines = [
        [
            _("model"),
            "ndcg@10 [95 %]",
            *METRICS[1:],
            _("ndcg@10 - that of {model} [95 %]").format(model=rows[0]["model"]),
        ]
    ]
    for r in rows:
        m, d = r["metrics"], r.get("difference")
        gap = f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" if d else ""
        own = [f"{m[name]:.3f}" if name in m else "-" for name in METRICS[1:]]
        name = _(r["model"]) if r["model"] == RULE else r["model"]
        lines.append([name, f"{m['ndcg@10']:.3f} [{r['low']:.3f}, {r['high']:.3f}]", *own, gap])
    return aligned(lines)


def _rank(scores, relevance):
    """Return (rank of the first right document, its place in the list); documents with equal scores count before it."""
    right = [i for i, r in enumerate(relevance) if r > 0]
    best = max(right, key=lambda i: scores[i])
    return 1 + int(sum(s >= scores[best] for i, s in enumerate(scores) if relevance[i] <= 0)), best


def _worst(groups, own, count):
    """Return the queries with the least nDCG@10: their best right document with its rank, and the document at the top."""
    values, out = own.per_query(), []
    for i in np.argsort(values, kind="stable")[:count].tolist():
        g, scores = groups[i], own.scores[i]
        rank, best = _rank(scores, g.relevance)
        top = g.documents[int(np.argmax(scores))]
        out.append(
            {"query": g.query, "ndcg@10": float(values[i]), "rank": rank, "right": g.documents[best][:200], "first": top[:200]}
        )  # fmt: skip
    return out


def _queries(groups, found):
    """Yield what ``--per-query`` writes."""
    values = {name: own.per_query() for name, own in found.items()}
    for i, g in enumerate(groups):
        yield {
            "query": g.query,
            "documents": len(g.documents),
            "ndcg@10": {options.shown(name): float(own[i]) for name, own in values.items()},
            "first_right": {options.shown(n): _rank(own.scores[i], g.relevance)[0] for n, own in found.items()},
        }
