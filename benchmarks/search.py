"""Search before and after adapting: the share of questions whose first passage is a right one, over a whole corpus.

    python -m benchmarks.search --handbook --real FOLDER --json build/search.json

``--handbook``: the bundled handbooks in English and Chinese, through ``prepare``. ``--real``: a folder with train and test
lists (train.jsonl or train.json, test.*), whose corpus is every document in them. BM25 hands on its 50 best passages; a
question whose right passage is not among them counts as missed. ``--seeds 3`` repeats the training.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import quiet
from course_utils.data import check_no_leak, load_domain, prepare, rankable, read_data, usable, without_answers
from course_utils.errors import InputError
from course_utils.evaluation import paired_bootstrap
from course_utils.files import data_folder, write_json
from course_utils.model import Reranker
from course_utils.ship import SearchIndex, build_index, search
from course_utils.training import Recipe, adapt

COLUMNS = {
    "en": {"query": "What people ask", "document": "Answer is in"},
    "zh": {"query": "员工的问法", "document": "答案出处"},
}


def handbook(language):
    """Return (train, dev, test, passages) of a bundled handbook."""
    folder = data_folder() / "handbook" / language
    done = prepare(folder / "questions.csv", folder / "handbook.csv", columns=COLUMNS[language])
    return done.parts["train"], done.parts["dev"], done.parts["test"], [p.text for p in done.passages]


def real(folder):
    """Return (train, None, test, passages) of a folder with train and test lists."""
    parts = []
    for name in ("train", "test"):
        files = sorted(Path(folder).glob(f"{name}.json*"))
        if len(files) != 1:
            raise InputError(f"{folder} holds {len(files)} files named {name}.json or {name}.jsonl; one is needed.")
        parts.append(read_data(files[0], drop_repeated=True).groups)
    train, test = rankable(parts[0]), [g for g in parts[1] if g.positives]
    check_no_leak(train, test)
    passages = list(dict.fromkeys(d for g in (*parts[0], *parts[1]) for d in g.documents))
    return without_answers(train, test), None, test, passages


def indexed(passages, folder):
    """Return a SearchIndex of texts, each a passage of its own."""
    lines = "".join(json.dumps({"id": str(i), "text": t}, ensure_ascii=False) + "\n" for i, t in enumerate(passages))
    (Path(folder) / "passages.jsonl").write_text(lines, encoding="utf-8")
    build_index(Path(folder) / "passages.jsonl", Path(folder) / "index", size=10**6)
    return SearchIndex(Path(folder) / "index")


def first_right(index, test, reranker=None, first=50):
    """Return an array with 1 for each question whose first passage is right, 0 else."""
    hits = [search(index, g.query, reranker, 1, first) for g in test]
    right = [{d.strip() for d in g.positives} for g in test]
    return np.array([float(bool(h) and h[0].text in own) for h, own in zip(hits, right, strict=True)])


def measured(train, dev, test, passages, seeds=1, epochs=3):
    """Return the figures of one set: shares of BM25, before and after, and the interval of the difference."""
    replay = [g for language in ("en", "zh") for g in load_domain("general", language, "train")]
    with tempfile.TemporaryDirectory() as folder:
        index = indexed(passages, folder)
        found = [{h.text for h in search(index, g.query, top_k=50)} for g in test]
        within = float(np.mean([bool(own & set(g.positives)) for own, g in zip(found, test, strict=True)]))
        bm25, reranker = first_right(index, test), Reranker.load("nano", device="cpu", quiet=True)
        train = usable(train, reranker)[0]
        before, after = first_right(index, test, reranker), []
        for seed in range(seeds):
            reranker = Reranker.load("nano", device="cpu", quiet=True)
            done = adapt(reranker, train, dev, Recipe(seed=seed, epochs=epochs), replay=replay, quiet=True)
            after.append(first_right(index, test, reranker))
    after = np.mean(after, axis=0)
    zero, gap = np.zeros(len(test)), paired_bootstrap(before, after)
    rows = {name: paired_bootstrap(zero, v) for name, v in (("bm25", bm25), ("before", before), ("after", after))}
    return {
        "passages": len(passages), "train": len(train), "test": len(test), "within_50": within, "best_epoch": done.best_epoch,
        **{name: {"share": d.mean, "low": d.low, "high": d.high} for name, d in rows.items()},
        "difference": {"mean": gap.mean, "low": gap.low, "high": gap.high},
    }  # fmt: skip


def table(found):
    """Return the figures of all sets as a Markdown table."""
    shown = lambda d: f"{d['share']:.0%} [{d['low']:.0%}, {d['high']:.0%}]"  # noqa: E731
    lines = [
        "| set | passages | train / test questions | right within 50 of BM25 | BM25 first | before | after | difference [95 %] |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, r in found.items():
        d = r["difference"]
        lines.append(
            f"| {name} | {r['passages']:,} | {r['train']} / {r['test']} | {r['within_50']:.0%} | {shown(r['bm25'])} | "
            f"{shown(r['before'])} | {shown(r['after'])} | {d['mean']:+.0%} [{d['low']:+.0%}, {d['high']:+.0%}] |"
        )
    return "\n".join(lines)


def main(argv=None):
    """Measure what is asked for, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handbook", action="store_true")
    parser.add_argument("--real", metavar="FOLDER", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", metavar="OUT")
    args = parser.parse_args(argv)
    quiet()
    sets = {f"handbook {language}": (handbook, language) for language in COLUMNS if args.handbook}
    sets |= {Path(folder).name: (real, folder) for folder in args.real}
    found = {name: measured(*read(where), args.seeds, args.epochs) for name, (read, where) in sets.items()}
    print(table(found))
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
