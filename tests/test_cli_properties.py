"""The command line with random options and random files: it ends with 0, 2 or 130, shows no traceback, and harms no file.

A short run is part of the suite; COURSE_PROPERTY_MINUTES=30 makes a long one that prints its seeds and how many calls it made,
from seed COURSE_PROPERTY_SEED on (0).
"""

import json
import os
import shutil
import time
from collections import Counter

import hypothesis
import pytest
from conftest import tiny_model
from failures import Case, make_world, rows, run
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from course_utils.model.reranker import Reranker

MINUTES = float(os.environ.get("COURSE_PROPERTY_MINUTES", "0"))
FIRST = int(os.environ.get("COURSE_PROPERTY_SEED", "0"))
SHORT, BATCH = 40, 100  # calls of the short run; calls a seed of the long one

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
word = st.sampled_from(["fever", "rent", "what is fever 0", "糖尿病", "<|im_end|>", "\u2028", "a\tb", "", " "]) | text
label = st.sampled_from([0, 1, 1, 0, 2, -1, "1", "yes", None, True, 0.5, 1e300, float("nan"), [], {}])
value = word | label
pair = st.fixed_dictionaries({"query": word, "document": word, "relevance": st.sampled_from([0, 1])})
wild = st.dictionaries(st.sampled_from(["query", "document", "relevance", "topic", "label", ""]), value, max_size=4)
good = st.integers(0, 20).flatmap(lambda start: st.integers(1, 8).map(lambda count: rows(start, count)))
records = st.one_of(good, st.lists(pair, max_size=12), st.lists(pair | wild | value, max_size=6), value)

INPUTS = ("--train", "--test", "--dev", "--general", "--data=", "--documents", "--pairs")


def as_csv(table, separator=","):
    """Return records as a CSV of sorts, not always a sound one."""
    lines = [separator.join(["query", "document", "relevance"])]
    for r in table if isinstance(table, list) else []:
        if isinstance(r, dict):
            lines.append(separator.join(str(r.get(k, "")) for k in ("query", "document", "relevance")))
    return "\n".join(lines)


content = st.one_of(
    records.map(lambda r: (".json", json.dumps(r).encode())),
    records.map(lambda r: (".jsonl", "\n".join(map(json.dumps, r if isinstance(r, list) else [r])).encode())),
    records.map(lambda r: (".csv", as_csv(r).encode("utf-8", "surrogatepass"))),
    records.map(lambda r: (".tsv", as_csv(r, "\t").encode("utf-8", "surrogatepass"))),
    st.tuples(st.sampled_from([".json", ".jsonl", ".csv", ".parquet", ".txt", ""]), st.binary(max_size=200)),
)
number = st.sampled_from(
    ["0", "1", "2", "3", "4", "-1", "99", "1e9", "nan", "", "many", "16384", "256", "64", str(10**30)]
)
place = st.sampled_from(["new/r.json", "r.json", "-", "", ".", "model", "model/config.json", "one", "two", "docs.txt", "/dev/null",
                         "train.json", "test.json", "/proc/nowhere/r.json", "out/model/x", "a" * 300, "link"])  # fmt: skip
model_name = st.sampled_from(
    ["model", "model", "model", "model", "nano2", "./model", "train.json", "", "no/such", "link"]
)
source = st.sampled_from(
    ["train.json", "test.json", "dev.json", "general.json", "one", "two", "model", "nowhere.json", "-", ""]
)
OPTIONS = {
    "--instruction": word, "--max-length": number, "--device": st.sampled_from(["cpu", "cuda", "tpu", ""]),
    "--dtype": st.sampled_from(["float32", "bfloat16", "float99"]), "--batch-tokens": number, "--json": place,
}  # fmt: skip
ADAPT = {
    "--layers": st.sampled_from(["1", "2", "all", "0", "3", "4", "x"]), "--epochs": st.sampled_from(["1", "0", "-1"]), "--negatives": number,
    "--learning-rate": st.sampled_from(["1e-3", "0", "nan", "-1", "1e30", "inf"]), "--max-queries": number, "--seed": number,
    "--dev": source, "--general": source, "--loss": st.sampled_from(["auto", "pointwise", "graded", "teacher", "other"]),
    "--keep": st.sampled_from(["auto", "best", "last", "halfway", "first"]),
}  # fmt: skip
EVALUATE = {"--per-query": place, "--worst": number, "--seed": number, "--max-relevance": number}
LONG = {"--long-documents": st.sampled_from(["cut", "passages", ""])}


def often(value, strategy):
    """Return a strategy that gives a usual value seven times of eight, so that many calls go all the way."""
    return st.integers(0, 7).flatmap(lambda i: strategy if i == 7 else st.just(value))


# Options as people give them; of those in OPTIONS, ADAPT, EVALUATE most calls are refused early.
SOUND = {
    "--max-length": "128", "--instruction": "Find help for the sick", "--device": "cpu", "--batch-tokens": "256", "--layers": "all",
    "--epochs": "1", "--negatives": "2", "--keep": "halfway", "--learning-rate": "1e-3", "--max-queries": "4", "--seed": "3", "--dev": "dev.json",
    "--general": "general.json", "--loss": "pointwise", "--worst": "3", "--max-relevance": "2", "--top-k": "2", "--long-documents": "passages",
    "--dtype": "bfloat16", "--per-query": "new/r.json",
}  # fmt: skip


def given_options(table):
    """Return a strategy of command line words: some of the options in ``table`` with their values."""
    chosen = st.lists(st.sampled_from(sorted(table)), max_size=4, unique=True)
    return chosen.flatmap(lambda names: st.tuples(*(table[n].map(lambda v, n=n: f"{n}={v}") for n in names)).map(list))


def line(name, **fixed):
    """Return a strategy of whole command lines of one command."""
    table = OPTIONS | LONG | {"adapt": ADAPT, "evaluate": EVALUATE, "rank": {"--top-k": number}}.get(name, {})
    table = {
        k: often(SOUND[k], v) if k in SOUND else v
        for k, v in table.items()
        if k[2:] not in fixed and (name, k) != ("score", "--json")
    }
    parts = [v.map(lambda x, k=k: f"--{k}={x}") for k, v in fixed.items()]
    return st.tuples(st.tuples(*parts).map(list), given_options(table)).map(lambda p: [name, *p[0], *p[1]])


command = st.one_of(
    line("rank", model=often("model", model_name), query=word,
         documents=often("docs.txt", source.filter(lambda s: s != "-"))),
    line("evaluate", model=often("model", model_name), data=often("data.json", source), json=often("r.json", place)),
    line("score", model=often("model", model_name), pairs=often("one", source), out=often("r.json", place)),
    line("adapt", model=st.just("model"), train=often("train.json", source), test=often("test.json", source),
         out=often("out", st.sampled_from(["one", "model", "."])), json=often("r.json", place)).map(lambda words: [*words, "--no-replay"]),
    st.tuples(st.lists(source, min_size=1, max_size=2), st.none() | source, number).map(
        lambda t: ["data", "check", "--model=model", f"--max-length={t[2]}", *([f"--test={t[1]}"] if t[1] else []), "--", *t[0]]
    ),
    st.lists(word | st.sampled_from(["rank", "data", "build", "split", "--help2", "--json", "adapt"]), max_size=4)
    .filter(lambda words: not {"doctor", "course", "-", "build"} & set(words)),
)  # fmt: skip


@pytest.fixture(scope="module")
def template(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    Reranker(tiny_model(tokenizer, layers=3), tokenizer, max_length=256, name="tiny").save(folder / "tiny")
    make_world(folder / "world", folder / "tiny")
    (folder / "world" / "link").symlink_to("train.json")
    return folder / "world"


def attempt(template, folder, words, one, two):
    """Make one call in a fresh copy, check what must always hold, and return how it ended: an exit code or what went well."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder, symlinks=True)
    names = {}
    for name, (suffix, data) in (("one", one), ("two", two)):
        names[name] = f"{name}{suffix}"
        (folder / names[name]).write_bytes(data)
    for name, real in names.items():
        words = [
            w.replace(f"={name}", f"={real}") if w.endswith(f"={name}") else real if w == name else w for w in words
        ]
    try:
        found = run(Case("", "", words, "", new=(".*",)), folder)
    except SystemExit as end:  # --help
        assert end.code in (0, None)
        return "help"
    shown = f"{words}\n{found.out}\n{found.err}"
    assert found.code in (0, 2, 130), shown
    assert "Traceback" not in shown and "The program itself failed" not in shown, shown
    outputs = ("--json=", "--per-query=", "--out=") if words[:1] == ["score"] else ("--json=", "--per-query=")
    named = {os.path.realpath(folder / w.partition("=")[2]) for w in words if w.startswith(outputs) and found.code == 0}
    read = [w.partition("=")[2] for w in words if w.startswith(INPUTS)]
    changed = [
        n for n in found.changed if os.path.realpath(folder / n) not in named or n in read or n.startswith("model/")
    ]
    assert not changed, f"{changed} changed: {shown}"
    new = [n for n in found.litter if n.endswith(".part")] + [p.name for p in folder.rglob("*.part")]
    assert not new, f"{new} left behind: {shown}"
    if found.code == 2:
        assert found.err.splitlines()[-1].startswith("error: "), shown
        assert not (folder / "new").exists() or not list((folder / "new").iterdir()), shown
    for path in folder.rglob("r.json"):
        content = path.read_text(encoding="utf-8")
        if not content.startswith("{\n"):  # lines of JSON, of score or --per-query
            content = "[" + ",".join(content.rstrip("\n").split("\n")) + "]"
        json.loads(content)
    return f"{words[0]} {found.code}" if found.code == 0 else found.code


@pytest.mark.slow
def test_random_calls_end_well(template, tmp_path):
    @settings(max_examples=BATCH if MINUTES else SHORT, deadline=None, database=None, derandomize=False,
              suppress_health_check=list(HealthCheck), phases=[Phase.generate])  # fmt: skip
    @hypothesis.given(command, content, content)
    def calls(words, one, two):
        ends[attempt(template, tmp_path / "world", words, one, two)] += 1

    started, seed, ends = time.monotonic(), FIRST, Counter()
    while seed == FIRST or time.monotonic() - started < 60 * MINUTES:
        hypothesis.seed(seed)(calls)()
        seed += 1
        if MINUTES:
            print(
                f"seeds {FIRST} to {seed - 1}: {ends.total()} calls in {time.monotonic() - started:.0f} s, {dict(ends)}",
                flush=True,
            )
