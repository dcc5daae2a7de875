"""Ranking sets side by side: random order, the document alone, BM25, rerankers as they are and adapted, an encoder.

    python -m benchmarks.real_sets --real FOLDER                                  (nano and, where installed, the encoder)
    python -m benchmarks.real_sets --real FOLDER --models nano,e5,smollm2 --ways last3,lora --seeds 3 --json OUT.json

FOLDER holds NAME/test.jsonl and NAME/train.jsonl with rows of query, document, relevance; --course adds the course's own sets.
Every figure is nDCG@10 on test lists and is kept in OUT.json as it comes: a second run of the same command goes on, and
figures of other lists, weights or settings are measured anew. The page OUT.md is written beside it.

last3-half trains the last 3 layers to their last epoch, whatever dev says, and keeps the mean of their weights before and
after: Recipe(keep="halfway"). default is Recipe(), which does so by itself where a small model has queries enough, with fewer
negatives; the other ways draw 4 and, but for last3-half, keep the best epoch.

"Document alone" is a rule that never sees the query (course_utils.evaluation.document_alone). "Base + rule" is the base with
the rule's scores added, their weight chosen on dev: a gain from training that this sum reaches, too, is no evidence that
queries are read.
"""

import argparse
import os
import sys
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import encoder, frozen
from benchmarks.common import (
    BUILD,
    HERE,
    in_own_process,
    machine_line,
    model_folder,
    model_key,
    packed,
    quiet,
    run_cells,
)
from benchmarks.lists import Lists, course_sets, fingerprint, held_out, real_sets
from benchmarks.real_sets_page import BASELINES, DEFAULT, ENCODER, HALF, RULED, WAYS, page
from benchmarks.ruled import with_rule
from course_utils.data import LANGUAGES, load_domain
from course_utils.data.groups import subset
from course_utils.data.negatives import bm25_scores
from course_utils.domains.delta import attach
from course_utils.domains.train import adapt_lora
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate, evaluate_scores
from course_utils.evaluation.rules import document_alone
from course_utils.machine import peak_memory_mb
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe


def figures(found, test):
    """Return an Evaluation as a cell: the mean and one value a query.

    Raises:
        InputError: a query was left out, because its text fills the prompt alone: means would not compare.
    """
    if len(found.scores) != len(test):
        raise InputError(
            f"{len(test) - len(found.scores)} queries are too long for the model; leave them out of the set."
        )
    return {"ndcg@10": found.summary["ndcg@10"], "values": packed(found.per_query())}


def baseline(name, lists):
    """Return the Evaluation of a way that needs no model."""
    scores = {
        "random": lambda: [
            np.zeros(len(g.documents)) for g in lists.test
        ],  # nDCG of ties is the mean over their orders
        "document alone": lambda: document_alone(lists.train, lists.test),
        "BM25": lambda: bm25_scores(lists.test),
    }[name]()
    return evaluate_scores(scores, lists.test)


def tested(reranker, test, layers, states):
    """Return the Evaluation of a reranker, from states below its last ``layers`` in folder ``states`` where one is given."""
    if states is None:
        return evaluate(reranker, test)
    return evaluate_scores(frozen.scores(reranker, test, layers, states / "test"), test)


def beside_the_rule(folder, lists, found):
    """Return the cell of a reranker as it is plus the rule that reads documents alone, see ``ruled``; ``found`` as in ``as_it_is``."""
    train, dev = (lists.train, lists.dev) if lists.dev else held_out(lists.train)
    scores = {"dev": Reranker.load(folder, quiet=True).score_groups(dev), "test": found().scores}
    summed, weight = with_rule(scores, train, {"dev": dev, "test": lists.test})
    return figures(summed["test"], lists.test) | {"weight": weight}


def as_it_is(test, found):
    """Return the cell of a reranker that never saw the set; ``found()`` is its Evaluation on ``test``."""
    started = time.perf_counter()
    return figures(found(), test) | {"seconds": time.perf_counter() - started}


def learned(folder, lists, way, recipe, replay, states=None):
    """Adapt a reranker to one set; return its cell, with seconds, peak memory and what it lost on general lists.

    Args:
        folder: model folder.
        lists: Lists.
        way: a key of WAYS.
        recipe: Recipe.
        replay: groups to mix in, or none.
        states: folder where the states below the last layers stay for the next seed, see ``frozen``.
    """
    reranker = Reranker.load(folder, quiet=True)
    general = [g for language in LANGUAGES for g in load_domain("general", language, "test")] if replay else []
    before = evaluate(reranker, general).summary["ndcg@10"] if general else None
    if way == "lora":
        delta, run = adapt_lora(reranker, lists.train, lists.dev, recipe, quiet=True)
        attach(reranker, delta)
    else:
        kept = {"work_dir": states / "train", "resume": False} if states else {}
        run = adapt(reranker, lists.train, lists.dev, recipe, replay=replay, quiet=True, **kept)
    return figures(tested(reranker, lists.test, recipe.layers, states), lists.test) | {
        "seconds": run.seconds, "peak_mb": peak_memory_mb(), "trainable": run.trainable, "best_epoch": run.best_epoch,
        "general": evaluate(reranker, general).summary["ndcg@10"] - before if general else None,
    }  # fmt: skip


def recipes(args):
    """Return {(way, seed): Recipe} of what is asked for, seed by seed: a run that is stopped has whole seeds."""
    rates = dict(pair.split("=") for pair in args.rates.split(",") if pair)
    ways = [w for w in args.ways.split(",") if w and w != "none"]
    if args.replay and "lora" in ways:
        raise InputError("LoRA is trained without replay here: leave --replay out, or lora.")
    for way in (*ways, *rates):
        if way not in WAYS:
            raise InputError(f'"{way}" is no way to train; choose from none, {", ".join(WAYS)}.')
    return {
        (way, seed): Recipe(
            layers=WAYS[way],
            epochs=args.epochs,
            seed=seed,
            learning_rate=float(rates[way]) if way in rates else None,
            **({} if way == DEFAULT else {"keep": "halfway" if way.endswith(HALF) else "best", "negatives": 4}),
        )
        for seed in range(args.seeds)
        for way in ways
    }


def measure(cells, sets, args):
    """Fill every cell that is asked for: what needs no model first, then models as they are, then adaptations."""
    chosen = recipes(args)
    asked = [m for m in args.models.split(",") if m and m != ENCODER]
    folders = {Path(m).name: model_folder(m) for m in asked}
    if len(folders) != len(asked):
        raise InputError(f"Two of the models {args.models} have the same name; rename a folder.")
    keys = {m: model_key(folder) for m, folder in folders.items()}
    layers = max((r.layers for r in chosen.values() if isinstance(r.layers, int)), default=None)

    def kept(name, model):
        return Path(args.states) / f"{name}-{model}" if args.states and layers else None

    cells.data["facts"] = facts(args)
    cells.data.setdefault("sets", {}).update({name: len(lists.test) for name, lists in sets.items()})
    for name, lists in sets.items():
        for rule in BASELINES:
            if lists.train or rule != "document alone":
                of = fingerprint(lists.train, lists.test)
                cells.of((name, rule), of, lambda rule=rule, lists=lists: figures(baseline(rule, lists), lists.test))
    for name, lists in sets.items():
        for model, folder in folders.items():
            of = fingerprint(lists.test, keys[model])
            place = kept(name, model)

            @cache  # two cells are made of one scoring
            def found(folder=folder, test=lists.test, place=place):
                return tested(Reranker.load(folder, quiet=True), test, layers, place)

            cells.of((name, model, "as it is"), of, partial(as_it_is, lists.test, found))
            if lists.train and chosen:
                of = fingerprint(lists.train, lists.dev, lists.test, keys[model])
                cells.of((name, model, RULED), of, partial(beside_the_rule, folder, lists, found))
    if ENCODER in args.models.split(","):
        vectors = encoder.Vectors(BUILD / "e5.sqlite")
        for name, lists in sets.items():
            test = subset(lists.test, args.encoder_queries)
            of = fingerprint(test)
            cells.of((name, ENCODER), of, lambda t=test: figures(evaluate_scores(vectors.scores(t), t), t))
    replay = [g for language in LANGUAGES for g in load_domain("general", language, "train")] if args.replay else []
    for (way, seed), recipe in chosen.items():
        for name, lists in sets.items():
            for model, folder in folders.items():
                mixed = [] if name.startswith("course general") else replay
                of = fingerprint(lists.train, lists.dev, lists.test, mixed, [keys[model], recipe.asdict()])
                place = kept(name, model) if isinstance(recipe.layers, int) else None
                work = partial(in_own_process, learned, args.threads, folder, lists, way, recipe, mixed, place)
                if lists.train:
                    cells.of((name, model, way, str(seed)), of, work)


def facts(args):
    """Return what stands above the tables."""
    return (
        f"nDCG@10 on test lists, higher is better. {machine_line(args.threads)}. Adapted: {args.epochs} epochs, "
        f"{f'at most {args.train_queries} queries of the train file, ' if args.train_queries else ''}"
        f"{'with' if args.replay else 'no'} general replay, else the defaults of `Recipe`"
        f"{f', learning rates {args.rates}' if args.rates else ''}"
        f", 4 negatives, {f'keep=halfway for ways that end in {HALF}, best for the others' if HALF in args.ways else 'keep=best'}"
        f"{f', what it chooses itself for the way {DEFAULT}' if DEFAULT in args.ways else ''}"
        f"{', dev lists the same for all seeds, of which the first computes the frozen states' if args.states else ''}. "
        'Intervals: 95 %, paired bootstrap over queries (of means over seeds). "Document alone" never sees the query; '
        f'"{RULED}" is the model as it is with the scores of that rule added, their weight chosen on dev.'
    )


def parser(alone=True):
    """Return the options; own_base has the same and some of its own (``alone`` False)."""
    form = argparse.RawDescriptionHelpFormatter
    out = argparse.ArgumentParser(description=__doc__, formatter_class=form, add_help=alone)
    out.add_argument("--real", default=os.environ.get("COURSE_REAL_DATA"), metavar="FOLDER", help="folder of sets")
    out.add_argument("--course", action="store_true", help="the course's own eight sets too")
    out.add_argument("--sets", default="", metavar="NAMES", help="only these, for example medical-en,legal-zh")
    default = f"nano,{ENCODER}" if encoder.installed() else "nano"
    out.add_argument(
        "--models", default=default, help=f"nano, {ENCODER}, smollm2, folders of rerankers; default: {default}"
    )
    out.add_argument("--ways", default="none", help=f"none, or of {','.join(WAYS)}; default: none")
    out.add_argument("--seeds", type=int, default=3)
    out.add_argument("--epochs", type=int, default=Recipe().epochs)
    out.add_argument("--rates", default="", metavar="WAY=RATE", help="learning rates other than a model's default")
    out.add_argument(
        "--replay", action="store_true", help="mix in the course's general lists, measure what is lost there"
    )
    out.add_argument("--queries", type=int, help="test queries a set; default: all")
    out.add_argument("--train-queries", type=int, help="training queries a set; default: all")
    out.add_argument("--encoder-queries", type=int, help="test queries for the encoder alone, which is slow")
    out.add_argument(
        "--states", metavar="FOLDER", help="keep frozen states here for all seeds, whose dev lists are then the same"
    )
    out.add_argument("--threads", type=int, default=torch.get_num_threads())
    out.add_argument("--json", type=Path, default=HERE / "real_sets.json", metavar="OUT")
    return out


def chosen_sets(args):
    """Return {name: Lists} of what is asked for, cut to the sizes asked for."""
    if not args.real and not args.course:
        raise InputError("No sets: give --real FOLDER (or COURSE_REAL_DATA), or --course.")
    sets = (course_sets() if args.course else {}) | (real_sets(args.real) if args.real else {})
    names = [n for n in args.sets.split(",") if n] or list(sets)
    for name in names:
        if name not in sets:
            raise InputError(f'There is no set "{name}"; there are {", ".join(sets)}.')
    return {n: cut(sets[n], args) for n in names}


def cut(lists, args):
    """Return Lists of the sizes asked for; with ``--states`` the dev lists are held out here, once for all seeds."""
    train, dev = lists.train and subset(lists.train, args.train_queries), lists.dev
    if args.states and train and dev is None:
        train, dev = held_out(train)
    return Lists(train, dev, subset(lists.test, args.queries))


def main(argv=None):
    """Measure and write the page; return 0, or 2 with one sentence on standard error."""
    args = parser().parse_args(argv)
    quiet()
    torch.set_num_threads(args.threads)
    return run_cells(args.json, page, lambda cells: measure(cells, chosen_sets(args), args))


if __name__ == "__main__":
    sys.exit(main())
