"""``python -m course_utils data check | split | build | table``: the data from the command line."""

import argparse
import json
import os
import random
import sys
from itertools import combinations, product
from pathlib import Path

import numpy as np

from course_utils.data import grid, near
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate_scores
from course_utils.text import normalise

MAX_PAIRS = 5000
TABLE_START, TABLE_END = "<!-- data table: start -->", "<!-- data table: end -->"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one sentence."""

    def error(self, message):
        raise InputError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def main(argv=None):
    """Run a data command; return the exit code: 0, or 2 when the input is bad or a checked file has to be mended."""
    parser = Parser(prog="python -m course_utils data", description="Check, split, build and describe labelled data.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say what is wrong with files of labelled pairs")
    check.add_argument("files", nargs="+", metavar="FILE", help=".json, .jsonl, .csv, .tsv or .parquet")
    check.add_argument("--test", metavar="FILE", help="test file, to look for leaks")
    check.add_argument("--max-length", type=int, default=1024, metavar="N", help="tokens of a prompt (default 1024)")
    check.add_argument("--model", default="nano", help="whose tokenizer counts: nano, a folder or a hub name")
    check.add_argument("--max-relevance", type=int, default=1, metavar="N", help="the highest grade (default 1)")
    split = commands.add_parser("split", help="write splits.json of a domain")
    split.add_argument("domain")
    split.add_argument("language")
    split.add_argument("--force", action="store_true", help="replace the recorded splits")
    build = commands.add_parser("build", help="write DOMAIN_SPLIT.json of the four domains")
    build.add_argument("--out", required=True, metavar="DIR")
    build.add_argument("--language", choices=[*grid.LANGUAGES, "both"], default="both")
    build.add_argument("--force", action="store_true", help="replace files that were changed")
    table = commands.add_parser("table", help="print the figures of the data card in Markdown")
    table.add_argument("--card", action="store_true", help="put them into README.md of the data folder as well")
    for command in (split, build, table):
        command.add_argument("--data", metavar="DIR", default=grid.DATA, help="the data folder (default: the course's)")
    try:
        options = parser.parse_args(argv)
        run = {"check": run_check, "split": run_split, "build": run_build, "table": run_table}[options.command]
        return run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run_check(options):
    """Print the report on each file."""
    from course_utils.data.report import check_file

    if options.max_length < 1:
        raise InputError("--max-length must be above 0.")
    tokenizer, bad = load_tokenizer(options.model), []
    for i, file in enumerate(options.files):
        report = check_file(file, options.test, tokenizer, options.max_length, options.max_relevance)
        print(f"{'' if i == 0 else chr(10)}{report}")
        bad += [] if report.ok else [file]
    if bad:
        raise InputError(f"{' and '.join(bad)}: to be mended before use, as said above.")
    return 0


def load_tokenizer(name):
    """Return the tokenizer of a model, or raise InputError."""
    from transformers import AutoTokenizer

    from course_utils.model.hub import model_folder

    folder = model_folder(name)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no tokenizer that can be read: {str(error).splitlines()[0]}") from None


def run_split(options):
    """Draw train, dev and test topics of a domain and record them."""
    cells = grid.read_cells(options.domain, options.language, options.data)
    path = Path(options.data) / options.domain / options.language / "splits.json"
    if path.exists() and not options.force:
        raise InputError(
            f"{path} exists; other splits make earlier results incomparable. Give --force to replace it all the same."
        )
    splits = grid.make_splits(cells)
    write(path, json.dumps(splits, ensure_ascii=False, indent=1) + "\n")
    print(f"{path}: {', '.join(f'{len(topics)} {name}' for name, topics in splits.items())} topics.")
    return 0


def run_build(options):
    """Write the learner's files: {"query", "document", "relevance"} records, one a line in a JSON list."""
    out = Path(options.out)
    files = {}
    for domain in grid.DOMAINS:
        for split in grid.SPLITS:
            limit = MAX_PAIRS if split == "train" else None
            both = {
                language: grid.load_domain(domain, language, split, options.data)
                for language in (grid.LANGUAGES if options.language == "both" else [options.language])
            }
            parts = {f"_{language}" if len(both) > 1 else "": limited(g, limit) for language, g in both.items()}
            if len(both) > 1:
                halves = [limited(g, limit and limit // 2) for g in both.values()]
                parts[""] = [g for half in halves for g in half]
            files.update({out / f"{domain}_{split}{suffix}.json": groups for suffix, groups in parts.items()})
    texts = {path: as_json(groups) for path, groups in files.items()}
    for path, text in texts.items():
        if path.exists() and not options.force and path.read_bytes() != text.encode():
            raise InputError(f"{path} exists with other content; give --force to replace it, or another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}.") from None
    for path, text in texts.items():
        write(path, text)
        print(f"{path}: {sum(len(g.documents) for g in files[path]):,} pairs, {len(files[path]):,} queries")
    return 0


def limited(groups, pairs, seed=0):
    """Return as many whole groups, chosen at random, as hold at most ``pairs`` pairs, in their order; None: all."""
    if pairs is None or sum(len(g.documents) for g in groups) <= pairs:
        return list(groups)
    kept, total = [], 0
    for i in random.Random(seed).sample(range(len(groups)), len(groups)):
        total += len(groups[i].documents)
        if total > pairs:
            break
        kept.append(i)
    return [groups[i] for i in sorted(kept)]


def as_json(groups):
    """Return groups as a JSON list of query, document, relevance records, one a line."""
    rows = (
        json.dumps({"query": g.query, "document": d, "relevance": r}, ensure_ascii=False)
        for g in groups
        for d, r in zip(g.documents, g.relevance, strict=True)
    )
    return "[\n" + ",\n".join(rows) + "\n]\n"


def write(path, text):
    """Write a file under a temporary name and rename it, so that it is never half there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None


def run_table(options):
    """Print the table; with --card put it between the two marks of the data card too."""
    text = table_text(options.data)
    print(text)
    if options.card:
        path = Path(options.data) / "README.md"
        card = path.read_text(encoding="utf-8") if path.is_file() else ""
        before, start, rest = card.partition(TABLE_START)
        _, end, after = rest.partition(TABLE_END)
        if not (start and end):
            raise InputError(f"{path} has no lines {TABLE_START} and {TABLE_END} to put the table between.")
        write(path, f"{before}{start}\n\n{text}\n\n{end}{after}")
    return 0


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
    from course_utils.data.negatives import bm25_scores

    equal = [np.zeros(len(g.documents)) for g in groups]
    return [evaluate_scores(scores, groups).summary["ndcg@10"] for scores in (bm25_scores(groups), equal)]
