"""Search before and after adapting: the share of questions whose first passage is a right one, over a whole corpus.

    python -m benchmarks.search --handbook --real FOLDER [--queries 150] [--seeds 3] [--threads 1]

``--handbook``: the bundled handbooks in English and Chinese, through ``prepare``. ``--real``: a folder with train and test
lists (train.jsonl or train.json, test.*), whose corpus is every document in them. BM25 hands on its ``--first`` best
passages; a question whose right passage is not among them counts as missed. Every figure is kept in search.json as it
comes: a second run of the same command goes on. The page search.md is written beside it.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import HERE, machine_line, model_folder, model_key, packed, quiet, run_cells, unpacked
from benchmarks.lists import fingerprint
from course_utils.data import LANGUAGES, check_no_leak, load_domain, prepare, rankable, read_data, subset, usable
from course_utils.data.groups import without_answers
from course_utils.errors import InputError
from course_utils.evaluation import paired_bootstrap
from course_utils.files import data_folder
from course_utils.model import Reranker
from course_utils.ship import SearchIndex, build_index, search
from course_utils.text import markdown_table
from course_utils.training import Recipe, adapt
from course_utils.training.recipe import _default_keep

COLUMNS = {
    "en": {"query": "What people ask", "document": "Answer is in"},
    "zh": {"query": "员工的问法", "document": "答案出处"},
}
WORDS = (
    "Share of questions whose first passage is a right one, in a search over the whole corpus. BM25 hands its {first} best "
    "passages to the reranker, so the share within them is a ceiling. In brackets: 95 %, paired bootstrap over questions (of "
    "the mean over seeds). The last three layers are adapted, {epochs} epochs, with general replay; negatives and what is kept are what `Recipe` "
    "takes by itself: in the handbooks 4 a query and epoch, and the epoch that is best on dev; in a set of 200 training questions or more 2, and "
    "the middle between the start and the last epoch. Handbooks are the bundled ones (`data/handbook`), through `prepare`; another set's corpus is every document of its "
    "train and test lists. Model: {model} ({key}). {machine}; the machine did other work, too."
)


def handbook(language):
    """Return (train, dev, test, passages) of a bundled handbook."""
    folder = data_folder() / "handbook" / language
    done = prepare(folder / "questions.csv", folder / "handbook.csv", columns=COLUMNS[language])
    return done.parts["train"], done.parts["dev"], done.parts["test"], [p.text for p in done.passages]


def real(folder, queries=None):
    """Return (train, None, test, passages) of a folder with train and test lists; ``queries``: test questions at most."""
    parts = []
    for name in ("train", "test"):
        files = sorted(Path(folder).glob(f"{name}.json*"))
        if len(files) != 1:
            raise InputError(f"{folder} holds {len(files)} files named {name}.json or {name}.jsonl; one is needed.")
        parts.append(read_data(files[0], drop_repeated=True).groups)
    train, test = rankable(parts[0]), [g for g in parts[1] if g.positives]
    check_no_leak(train, test)
    passages = list(dict.fromkeys(d for g in (*parts[0], *parts[1]) for d in g.documents))
    return without_answers(train, test), None, subset(test, queries), passages


def indexed(passages, folder):
    """Return a SearchIndex of texts, each a passage of its own."""
    lines = "".join(json.dumps({"id": str(i), "text": t}, ensure_ascii=False) + "\n" for i, t in enumerate(passages))
    (Path(folder) / "passages.jsonl").write_text(lines, encoding="utf-8")
    build_index(Path(folder) / "passages.jsonl", Path(folder) / "index", size=10**6)
    return SearchIndex(Path(folder) / "index")


def first_right(index, test, reranker=None, first=50):
    """Return a list with 1 for each question whose first passage is right, 0 else."""
    hits = [search(index, g.query, reranker, 1, first) for g in test]
    right = [{d.strip() for d in g.positives} for g in test]
    return [float(bool(h) and h[0].text in own) for h, own in zip(hits, right, strict=True)]


def within(index, test, first):
    """Return a list with 1 for each question that has a right passage among the first of BM25, 0 else."""
    found = [{h.text for h in search(index, g.query, top_k=first)} for g in test]
    right = [{d.strip() for d in g.positives} for g in test]
    return [float(bool(own & r)) for own, r in zip(found, right, strict=True)]


def learned(folder, train, dev, recipe, replay, index, test, first):
    """Adapt the model; return the cell of its search."""
    reranker = Reranker.load(folder, device="cpu", quiet=True)
    done = adapt(reranker, usable(train, reranker)[0], dev, recipe, replay=replay, quiet=True)
    return {"values": packed(first_right(index, test, reranker, first)), "best_epoch": done.best_epoch}


def measure(cells, sets, args):
    """Fill the cells of every set: what needs no training first."""
    folder = model_folder(args.model)
    key, replay = model_key(folder), [g for language in LANGUAGES for g in load_domain("general", language, "train")]
    cells.data["words"] = WORDS.format(
        first=args.first, epochs=args.epochs, model=args.model, key=key, machine=machine_line(args.threads)
    )
    cells.data.setdefault("sets", {})
    for name, read in sets.items():
        train, dev, test, passages = read()
        cells.data["sets"][name] = {"passages": len(passages), "train": len(train), "test": len(test)}
        of = fingerprint(test, [*passages, args.first])
        with tempfile.TemporaryDirectory() as place:
            index = indexed(passages, place)
            cells.of((name, "within"), of, lambda i=index, t=test: {"values": packed(within(i, t, args.first))})
            cells.of((name, "BM25"), of, lambda i=index, t=test: {"values": packed(first_right(i, t))})
            reranker = Reranker.load(folder, device="cpu", quiet=True)
            work = partial(first_right, index, test, reranker, args.first)
            cells.of((name, "before"), fingerprint([of, key]), lambda work=work: {"values": packed(work())})
            for seed in range(args.seeds):
                recipe = Recipe(seed=seed, epochs=args.epochs)
                keep = _default_keep(reranker.model, recipe.layers, len(train))  # by name, for the fingerprint
                recipe = recipe.replace(keep=keep)
                own = fingerprint(train, dev, replay, [of, key, recipe.asdict()])
                work = partial(learned, folder, train, dev, recipe, replay, index, test, args.first)
                cells.of((name, "after", str(seed)), own, work)


def share(values):
    """Return the share of ones with its interval as a table cell."""
    d = paired_bootstrap(np.zeros(len(values)), np.array(values))
    return f"{d.mean:.0%} [{d.low:.0%}, {d.high:.0%}]"


def page(cells):
    """Return the page as Markdown: a row for each set whose base was measured; "-" stands for what is not there yet."""
    rows = []
    for name, sizes in cells.data["sets"].items():
        seeds = cells.get(name, "after") or {}
        if not cells.get(name, "before"):
            continue
        found, bm25, before = (unpacked(cells.get(name, way)["values"]) for way in ("within", "BM25", "before"))
        # Runs on other questions wait until they are measured anew.
        seeds = {n: run for n, run in seeds.items() if len(unpacked(run["values"])) == len(before)}
        after = np.mean([unpacked(run["values"]) for run in seeds.values()], axis=0) if seeds else None
        gap = paired_bootstrap(np.array(before), after) if seeds else None
        change = f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" if seeds else "-"
        rows.append([
            name, f"{sizes['passages']:,}", f"{sizes['train']} / {sizes['test']}", f"{np.mean(found):.0%}", share(bm25),
            share(before), share(after) if seeds else "-", change,
            ", ".join(str(run["best_epoch"]) for run in seeds.values()) or "-",
        ])  # fmt: skip
    head = ["set", "passages", "train / test questions", "right one within", "BM25 first", "before", "after"]
    table = markdown_table([*head, "difference in points [95 %]", "epoch, by seed"], rows)
    return f"# Search before and after adapting\n\n{cells.data['words']}\n\n{table}\n"


def main(argv=None):
    """Measure what is asked for and write the page; return 0, or 2 with one sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handbook", action="store_true", help="the bundled handbooks")
    parser.add_argument(
        "--real", metavar="FOLDER", action="append", default=[], help="a set of your own; several times"
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--queries", type=int, help="test questions of a set of your own; default: all")
    for name, default in (("seeds", 3), ("epochs", 3), ("first", 50), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, default=HERE / "search.json", metavar="OUT")
    args = parser.parse_args(argv)
    quiet()
    torch.set_num_threads(args.threads)
    sets = {f"handbook-{language}": partial(handbook, language) for language in LANGUAGES} if args.handbook else {}
    sets |= {Path(folder).resolve().name: partial(real, folder, args.queries) for folder in args.real}
    if not sets:
        parser.error("nothing to measure: give --handbook, or --real FOLDER")
    return run_cells(args.json, page, lambda cells: measure(cells, sets, args))


if __name__ == "__main__":
    sys.exit(main())
