"""data: check files of labelled pairs; split, build and describe the course's own data."""

import json
import random
from dataclasses import replace
from itertools import product
from pathlib import Path

from course_utils.cli import options, own_data, reading
from course_utils.errors import InputError
from course_utils.files import check_outputs, whole, write_json
from course_utils.language import _, _joined

MAX_PAIRS = 5000
LANGUAGES = ("en", "zh")


def add(commands):
    """Add the command and its sub-commands to the parser."""
    what = _("check a file of labelled pairs; split, build or describe the course's data")
    own = options.command(commands, "data", what, "data check train.json --test test.json", None)
    own = own.add_subparsers(dest="data_command", required=True, metavar="command")
    what = _("say what is wrong with files of labelled pairs")
    check = options.command(own, "check", what, "data check train.json --test test.json", run_check)
    check.add_argument("files", nargs="+", metavar="FILE", help=_("any file that data convert reads"))
    check.add_argument("--test", metavar="FILE", help=_("test file, to look for leaks"))
    check.add_argument(
        "--max-length", type=int, metavar="N", help=_("tokens of a prompt (default: what the model reads)")
    )
    check.add_argument("--model", default="nano", help=_("whose tokenizer counts: nano, a folder or a hub name"))
    options.add_grades(check)
    reading.add_reading(check)
    own_data.add(own)
    what = _("split a file of labelled pairs into train, dev and test; or draw the topics of the course's data")
    split = options.command(own, "split", what, "data split pairs.csv --out lists", run_split)
    own_data.add_split(split)
    split.add_argument("--force", action="store_true", help=_("of the course's data: replace the recorded splits"))
    what = _("write DOMAIN_SPLIT.json of the course's four domains as plain pairs")
    build = options.command(own, "build", what, "data build --out pairs --language en", run_build)
    build.add_argument("--out", required=True, metavar="DIR")
    build.add_argument("--language", choices=[*LANGUAGES, "both"], default="both")
    build.add_argument("--force", action="store_true", help=_("replace files that were changed"))
    what = _("print the figures of the data card in Markdown")
    table = options.command(own, "table", what, "data table --card", run_table)
    table.add_argument("--card", action="store_true", help=_("put them into README.md of the data folder as well"))
    for command in (split, build, table):
        command.add_argument("--data", metavar="DIR", help=_("the data folder (default: the course's)"))


def run_check(args):
    """Print the report on each file; a file that cannot be read at all does not keep the others from being checked."""
    from course_utils.data import check_file
    from course_utils.model import model_folder, read_settings

    folder = model_folder(args.model)
    tokenizer, length = _tokenizer(folder), args.max_length or read_settings(folder).get("max_length", 1024)
    bad, refused = [], []
    for i, file in enumerate(args.files):
        try:
            sources, highest = _sources(args, file)
            report = check_file(*sources, tokenizer, length, highest)
            report = replace(report, source=str(file), test=str(args.test or ""))
            if report.ok and not isinstance(sources[0], list):
                reading.note_torn(file)
        except InputError as error:
            if len(args.files) == 1:
                raise
            refused.append(str(error))
            continue
        print(f"{'' if i == 0 else chr(10)}{_blind(report, *sources, highest)}")
        bad += [] if report.ok else [file]
    bad = [_("{bad}: to be mended before use, as said above.").format(bad=" and ".join(bad))] if bad else []
    if bad or refused:
        raise InputError(_joined(refused + bad))


def _blind(report, file, test, max_relevance):
    """Return a report with what a rule finds that never reads the query: a finding, or a sentence."""
    from course_utils.data import rankable, read_groups, subset
    from course_utils.data.remarks import _Finding
    from course_utils.evaluation import betrayed
    from course_utils.evaluation.rules import BLIND, _tells

    try:
        parts = [
            subset(rankable(read_groups(f, max_relevance=max_relevance, drop_repeated=True)), BLIND)
            for f in (file, test)
            if f
        ]
        chance, rule, gain = betrayed(*parts)
    except InputError:  # lists of one label teach no rule
        said = (
            _("A rule that reads documents alone is tried once every row can be used.")
            if report.unusable
            else _("A rule that reads documents alone was not tried: it needs lists with right and wrong documents.")
        )
        return replace(report, said=said)
    found = _("nDCG@10 {rule:.3f}, random order {chance:.3f}, difference {mean:+.3f} [{low:+.3f}, {high:+.3f}]").format(
        rule=rule, chance=chance, mean=gain.mean, low=gain.low, high=gain.high
    )
    if _tells(gain):
        own = _Finding("document tells", round(100 * gain.mean), [], _(" ({kinds})").format(kinds=found))
        return replace(report, findings=[*report.findings, own])
    if gain.high < 0:  # it learned documents by heart, and each is right for one query and wrong for others
        said = _(
            "A rule that never reads the query does worse than random order, as happens where documents are right for one "
            "query and wrong for others: they do not betray their label ({found})."
        )
    elif gain.low > 0:
        said = _("A rule that never reads the query gains too little to matter, less than 0.02: {found}.")
    else:
        said = _("A rule that never reads the query finds nothing that betrays the label: {found}.")
    return replace(report, said=said.format(found=found))


def _sources(args, file):
    """Return ([data, test], highest grade): paths for the strict reader, rows of what data convert reads."""
    from course_utils.data.report import _rows_of

    sources, highest = [], args.max_relevance
    for path in (file, args.test):
        if path is None or (not reading.given(args) and reading.is_plain(path)):
            sources.append(path)
            continue
        rows = _rows_of(reading.read(args, path))
        highest = max([highest, *(row["relevance"] for row in rows)])
        sources.append(rows)
    return sources, highest


def _tokenizer(folder):
    """Return the tokenizer of a model, or raise InputError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(
            "{folder} holds no tokenizer that can be read: {error_0}", folder=folder, error_0=str(error).splitlines()[0]
        ) from None


def run_split(args):
    """Split a file; with a language, draw train, dev and test topics of a domain of the course's data and record them."""
    from course_utils.data import grid, read_cases

    if args.language is None:
        own_data.run_split(args)
        return
    if args.out:
        raise InputError(
            "{source} {language} means the course's data, which take no --out; to split a file give the file alone.",
            source=args.source, language=args.language,
        )  # fmt: skip
    data = Path(args.data or grid.DATA)
    place = data / args.source / args.language
    made = {}
    if (place / "cases.md").is_file():
        cases = read_cases(args.source, args.language, data, splits=False)
        made[place / "cases_splits.json"] = {
            s: sorted(t for t in cases.splits if cases.splits[t] == s) for s in grid.SPLITS
        }
    if (place / "grid.md").is_file() or not made:
        made[place / "splits.json"] = grid.make_splits(grid.read_cells(args.source, args.language, data))
    for path in made:
        if path.exists() and not args.force:
            raise InputError(
                "{path} exists; other splits make earlier results incomparable. Give --force to replace it all the same.",
                path=path,
            )
    for path, splits in made.items():
        write_json(path, splits)
        counts = _(", ").join(f"{len(topics)} {name}" for name, topics in splits.items())
        print(_("{path}: {counts} topics.").format(path=path, counts=counts))


def run_build(args):
    """Write the learner's files: {"query", "document", "relevance"} records, one a line in a JSON list."""
    from course_utils.data import grid, load_domain
    from course_utils.data.cases import PARTS

    check_outputs([], folders=[args.out])
    files = {}
    languages = LANGUAGES if args.language == "both" else [args.language]
    places = {
        d: [Path(args.data or grid.DATA) / d / language / "cases.md" for language in languages] for d in grid.DOMAINS
    }
    for domain, split in product(grid.DOMAINS, PARTS):
        if split == "questions" and not all(p.is_file() for p in places[domain]):
            continue
        limit = MAX_PAIRS if split == "train" else None
        both = {language: load_domain(domain, language, split, args.data) for language in languages}
        parts = {f"_{language}" if len(both) > 1 else "": limited(g, limit) for language, g in both.items()}
        if len(both) > 1:
            parts[""] = [g for groups in both.values() for g in limited(groups, limit and limit // 2)]
        files.update({Path(args.out) / f"{domain}_{split}{suffix}.json": g for suffix, g in parts.items()})
    texts = {path: as_json(groups) for path, groups in files.items()}
    check_outputs(files)
    for path, text in texts.items():
        if path.exists() and not args.force and path.read_bytes() != text.encode():
            raise InputError(
                "{path} exists with other content; give --force to replace it, or another --out.", path=path
            )
    for path, text in texts.items():
        with whole(path) as file:
            file.write(text)
        print(
            _("{path}: {value:,} pairs, {n_files:,} queries").format(
                path=path, value=sum(len(g.documents) for g in files[path]), n_files=len(files[path])
            )
        )


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
    from course_utils.data.report import _rows_of

    rows = (json.dumps(row, ensure_ascii=False) for row in _rows_of(groups))
    return "[\n" + ",\n".join(rows) + "\n]\n"


def run_table(args):
    """Print the table; with --card put it between the two marks of the data card too."""
    from course_utils.cli import card
    from course_utils.data import grid

    data = Path(args.data or grid.DATA)
    text = card.table_text(data)
    print(text)
    if args.card:
        card.put(data / "README.md", text)
