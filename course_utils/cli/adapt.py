"""adapt: train the last layers and write what was measured before and after."""

import shutil
import sys
import textwrap
import time
from contextlib import nullcontext, suppress
from pathlib import Path

from course_utils.cli import options, reading, record, told
from course_utils.cli import parts as parts_of
from course_utils.cli.evaluate import METRICS
from course_utils.cli.terminal import check_replaced
from course_utils.errors import InputError
from course_utils.files import check_outputs, lock
from course_utils.language import _

DEFAULT_EPOCHS = 3
KEEP = ("auto", "best", "last", "halfway")
LOSSES = ("auto", "pointwise", "listwise", "both", "graded", "teacher")
WORK = {"trunk", "checkpoints"}  # what a run keeps under OUT/work until it is done


def layer_count(text):
    """Return the value of ``--layers``: a whole number, or "all"."""
    return text if text == "all" else int(text)


def add(commands):
    """Add the command to the parser."""
    layer_count.__name__ = _("whole number or all")  # argparse names the type in its message
    example = "adapt --train train.json --test test.json --out adapted --json result.json"
    what = _("train the last layers on labelled pairs; measure before and after")
    parser = options.command(commands, "adapt", what, example, run)
    add = parser.add_argument
    add("--train", required=True, metavar="T", help=_("labelled pairs, any file that data convert reads"))
    add("--test", required=True, metavar="E", help=_("labelled pairs; no query and no right answer of them in T"))
    add("--out", required=True, metavar="DIR", help=_("folder for the adapted model"))
    add("--json", required=True, metavar="R", help=_("write the measurements here; - is standard output"))
    add(
        "--dev",
        metavar="D",
        help=_("labelled pairs that measure each epoch and may choose it; default: 15 %% of the queries in T"),
    )
    add("--general", metavar="G", help=_("labelled pairs of another kind: was anything forgotten?"))
    add("--layers", type=layer_count, default=3, metavar="K", help=_('last layers that train (default 3), or "all"'))
    add("--epochs", type=int, default=DEFAULT_EPOCHS, metavar="N",
        help=_('passes over the training queries (default {default_epochs})').format(default_epochs=DEFAULT_EPOCHS))  # fmt: skip
    add("--negatives", type=int, metavar="N", help=_("wrong documents a query and epoch (default 2 where half of the way is kept and is the default, else 4)"))  # fmt: skip
    add("--learning-rate", type=float, help=_("default: by the size of the model; less with --layers all"))
    add("--max-queries", type=int, metavar="Q", help=_("training queries to use at most"))
    add("--keep", choices=KEEP, default="auto",
        help=_("which weights: of the epoch that is best on dev, the last, or half of the way to the last; auto (default) "
               "is half of the way where the last layers of a small model learn from 200 queries or more (yours, without dev), else best"))  # fmt: skip
    add("--no-replay", action="store_true", help=_("do not mix the course's general queries into training"))
    add("--seed", type=int, default=0, metavar="S")
    add("--estimate", action="store_true", help=_("only say what it will take, and stop"))
    add("--loss", choices=LOSSES, default="auto",
        help=_('default: what the data ask for: teacher (scores), graded (grades above 1), else both'))  # fmt: skip
    options.add_long_documents(parser)
    options.add_grades(parser)
    options.add_model(parser)
    reading.add_reading(parser)


def run(args):
    """Train; print what was measured and return what is written."""
    _check(args)
    with nullcontext() if args.estimate else lock(args.out):
        return _adapt(args)


def _adapt(args):
    kept = record.Record(args)
    files, read = parts_of.read(args)
    reranker = options.load(args, revision=_possible(args, files, read))
    _instruct(args, reranker, read["train"], kept)
    parts = parts_of.usable(args, files, read, reranker, kept)
    _recipe(args).resolved(reranker.model, len(parts["train"]))
    replay = [] if args.no_replay else _replay(parts)
    if not _goes_on(args, reranker, parts, replay):
        return 0
    kept.model(reranker)
    before = _measure(args, reranker, parts)
    said = _("before: nDCG@10 {ndcg_10:.3f} on {n_test} test queries")
    print(said.format(ndcg_10=before["test"].summary["ndcg@10"], n_test=len(parts["test"])), flush=True)
    from course_utils.training import adapt

    work = Path(args.out) / "work"
    done = adapt(reranker, parts["train"], parts.get("dev"), _recipe(args), replay=replay, work_dir=work)
    result = _result(args, parts, done, before, _measure(args, reranker, parts), kept)
    place = reranker.save(Path(args.out) / "model")  # after the figures are shown: a full disk takes none of them
    _remove_work(work)
    print(_("model in {path}").format(path=place))
    return result


def _check(args):
    """Refuse what cannot be right before anything is read."""
    _recipe(args)
    out = Path(args.out)
    inputs = [args.train, args.dev, args.test, args.general, args.model]
    check_outputs([], folders=[out])
    check_outputs([args.json], inputs, folders=[out / "model", out / "work"])
    check_replaced(out / "model", "reranker.json")
    foreign = {p.name for p in (out / "work").glob("*") if not p.name.startswith(".")} - WORK
    if foreign:
        raise InputError(
            "{out} holds {foreign}, which was not written by this program, and would be removed; choose another --out.",
            out=out / "work", foreign=min(foreign)
        )  # fmt: skip
    where = Path(args.json).resolve()
    if args.json != "-" and any(where.is_relative_to((out / name).resolve()) for name in ("model", "work")):
        raise InputError("--json {json} lies in a folder that this run writes anew; choose another place.", json=args.json)  # fmt: skip


def _recipe(args):
    """Return the Recipe that the options ask for; raise InputError for a value that cannot be."""
    from course_utils.training import Recipe

    return Recipe(
        layers=args.layers, epochs=args.epochs, negatives="auto" if args.negatives is None else args.negatives,
        learning_rate=args.learning_rate, seed=args.seed, loss=args.loss, long_documents=args.long_documents, keep=args.keep,
    )  # fmt: skip


def _possible(args, files, read):
    """Refuse what the files and the model's settings alone show to be impossible; return the model's commit or folder.

    No weight is read for that: who mistypes --layers or gives too few queries learns it at once.
    """
    from course_utils.model import model_folder
    from course_utils.model.checkpoint import _read_json
    from course_utils.training import training_data

    parts = parts_of.usable(args, files, read)
    training_data(parts["train"], parts.get("dev"), seed=args.seed)
    folder = model_folder(args.model)
    count = _read_json(folder / "config.json").get("num_hidden_layers")
    if count:
        _recipe(args).check_layers(count)
    return folder.name


def _instruct(args, reranker, train, kept):
    """Give the model the instruction of the training rows where all have the same one: it is saved with the model."""
    told = {g.instruction for g in train}
    if args.instruction is None and len(told) == 1 and told != {""}:
        reranker.instruction = told.pop()
        said = _('the instruction of the rows is the model\'s now: "{instruction}"')
        kept.warn(said.format(instruction=reranker.instruction))


def _replay(parts):
    """Return the course's general training queries, without those that a part measures."""
    from course_utils.data import LANGUAGES, load_domain
    from course_utils.data.groups import _apart_from

    held = [g for part in ("dev", "test", "general") for g in parts.get(part, ())]
    return _apart_from([g for language in LANGUAGES for g in load_domain("general", language, "train")], held)


def _goes_on(args, reranker, parts, replay):
    """Print what a long training will take; return whether to begin."""
    from course_utils.training.adaptation import _replayed
    from course_utils.training.cost import forecast
    from course_utils.training.held_out import training_data
    from course_utils.training.recipe import is_large

    if args.estimate or is_large(reranker.model):
        learned, held_out = training_data(parts["train"], parts.get("dev"), replay=replay, seed=args.seed)
        scored = [*parts["test"], *parts.get("general", ())] * 2
        own = len(learned) - _replayed(learned, parts["train"])
        print(forecast(reranker, learned, held_out, scored, _recipe(args), own=own), flush=True)
    return not args.estimate


def _measure(args, reranker, parts):
    """Return {part: Evaluation} of test and general."""
    from course_utils.evaluation import evaluate

    show, way = sys.stderr.isatty(), args.long_documents
    return {part: evaluate(reranker, parts[part], show, way) for part in ("test", "general") if part in parts}


def _remove_work(folder):
    """Remove what only a run that was cut off needs."""
    for name in WORK:
        shutil.rmtree(folder / name, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def _result(args, parts, done, before, after, kept):
    """Print what was measured; return what is written."""
    from course_utils.evaluation import compare
    from course_utils.machine import peak_memory_mb

    difference = compare(before["test"], after["test"], seed=args.seed)
    result = {
        "before": {m: before["test"].summary[m] for m in METRICS},
        "after": {m: after["test"].summary[m] for m in METRICS},
        "delta_ndcg@10": difference.mean,
        "low": difference.low,
        "high": difference.high,
    }
    said = _("after:  nDCG@10 {ndcg_10:.3f}, difference {difference}")
    print(said.format(ndcg_10=result["after"]["ndcg@10"], difference=difference))
    rule = _rule(args, parts, before["test"], after["test"])
    if "general" in parts:
        for name, found in (("general_before", before["general"]), ("general_after", after["general"])):
            result[name] = {m: found.summary[m] for m in METRICS}
        values = [result[name]["ndcg@10"] for name in ("general_before", "general_after")]
        print(_("general: nDCG@10 {values_0:.3f} -> {values_1:.3f}").format(values_0=values[0], values_1=values[1]))
    for part, found in before.items():
        kept.cut(part, found.counts.cut)
    kept.cut("train", done.counts["train"]["documents_cut"])
    kept.content["replayed_queries"] = done.counts["replayed"]
    _beware(kept, parts, done, difference, after["test"])
    result |= {
        "seconds": time.perf_counter() - kept.started,
        "peak_memory_mb": peak_memory_mb(),
        "trainable_parameters": done.trainable,
        "total_parameters": done.total,
        "train_queries": done.counts["trained"],
        "dev_queries": done.counts["dev"]["queries"],
        "test_queries": len(parts["test"]),
        "best_epoch": done.best_epoch if done.recipe["keep"] == "best" else None,
        "kept": {"keep": done.recipe["keep"], "epoch": done.best_epoch, **done.kept},
        "history": done.history,
        "model": options.shown(args.model),
        "seed": args.seed,
    }
    print(_("{seconds:.0f} s, peak {peak_memory_mb:.0f} MB").format(**result))
    kept.content["recipe"] = done.recipe
    general = compare(before["general"], after["general"], seed=args.seed) if "general" in parts else None
    result["in_words"] = told.paragraph(done, len(parts["test"]), difference, general, rule and rule["above"])
    if rule:
        result["rule"] = rule | {"above": {k: getattr(rule["above"], k) for k in ("mean", "low", "high")}}
    print("\n" + _filled(result["in_words"]) + "\n", flush=True)
    return {**result, "run": kept.finish()}


def _rule(args, parts, before, after):
    """Print, and return, what a rule that never reads the query makes of the test lists, see ``_beside_rule``."""
    from course_utils.evaluation.rules import _beside_rule

    found = _beside_rule(parts["train"], parts["test"], before, after, args.seed)
    said = _("rule:   nDCG@10 {document_alone:.3f} without reading the query, random order {random:.3f}; before, with the "
             "rule added, {base_and_rule:.3f}; after is above that by {above}")  # fmt: skip
    print(said.format(**found) if found else _("rule:   none without reading the query: train lists teach none"))
    return found


def _filled(text):
    """Return a text in lines of 100 columns; one in Chinese as it is, since a terminal breaks it at any character."""
    return textwrap.fill(text, 100) if text.isascii() else text


def _beware(kept, parts, done, difference, after):
    """Warn of what makes a result say less than it seems to."""
    kept.few("test", len(parts["test"]))
    gain = done.kept["ndcg@10"] - done.history[0]["ndcg@10"]
    kept.warnings += done.warnings  # training has said them
    if done.best_epoch > 0 and difference.low <= 0 <= difference.high:
        kept.warn(
            _("the interval of the difference holds 0: whether it is a gain is not settled; label more test queries.")
        )
    if gain > record.SETTLED and difference.high < 0:
        kept.warn(
            _(
                "dev rose by {gain:.3f} and test fell: they may differ in kind; look at both before you use the model."
            ).format(gain=gain)
        )
    kept.alike(after.scores)
