"""Numbers typed in the prose of lessons: each is checked against the code, quoted with its source, or made up and marked so.

Marks are HTML comments in markdown cells, so readers do not see them:

- ``28<!-- fact: qwen.layers -->``: the number before the mark must equal FACTS["qwen.layers"], rounded as it is typed;
- ``<!-- source -->`` on a line: its figures are quoted, and the line names where from;
- ``<!-- example -->`` on a line: its figures are made up, for a quiz or an explanation.

A decimal number needs one of these, unless the same number stands in a code cell of the lesson (a setting) or in code
marks. What a run measures is never typed: code prints it.
"""

import ast
import importlib.util
import inspect
import json
import re
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from course_utils import training
from course_utils.data.read import DataError, read_pairs
from course_utils.evaluation.measure import paired_bootstrap
from course_utils.evaluation.metrics import mrr_at_k
from course_utils.model.reranker import sigmoid
from course_utils.updates import decide
from course_utils.updates import stream as continual

LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NOTEBOOKS = [*LESSONS, *sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
FACT = re.compile(rf"(?P<number>{NUMBER}|[A-Za-z]+)<!-- fact: (?P<name>[\w.@-]+) -->")


def cells(path, kind):
    return ["".join(c["source"]) for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == kind]


@cache
def qwen():
    """Return the Qwen3-Reranker-0.6B's shape as a model without memory."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    spec = importlib.util.spec_from_file_location("shape", ROOT / "benchmarks" / "make_qwen_shape.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.device("meta"):
        return Qwen3ForCausalLM(Qwen3Config(**module.SHAPE))


def qwen_share(layers):
    """Return the percent of the parameters that the last layers and the final norm hold."""
    model = qwen()
    last = [*model.model.layers[-layers:], model.model.norm]
    own = sum(p.numel() for part in last for p in part.parameters())
    return 100 * own / sum(p.numel() for p in model.parameters())


def default(function, name):
    """Return the default of an argument."""
    return inspect.signature(function).parameters[name].default


def small_rate(queries=4):
    return training.default_learning_rate(torch.nn.Linear(2, 2), queries)


@cache
def faulty_file():
    """Return (lines, problems) of the file that lesson 02 writes, read anew."""
    code = next(t for t in cells(ROOT / "notebooks" / "02_data.ipynb", "code") if 'lines = """' in t)
    tree = ast.parse(code)
    text = next(n.value.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "lines")
    with tempfile.TemporaryDirectory() as folder, pytest.raises(DataError) as caught:
        path = Path(folder) / "pairs.jsonl"
        path.write_text(text, encoding="utf-8")
        read_pairs(path)
    return text.splitlines(), caught.value.problems


def export_tolerance():
    """Return the tolerance of the tests that compare exports."""
    return float(
        re.search(r"^TOLERANCE = (\S+)", (ROOT / "tests" / "test_export.py").read_text("utf-8"), flags=re.M)[1]
    )


FACTS = {
    "course.lessons": lambda: len([p for p in LESSONS if "_bonus_" not in p.name]),
    "qwen.layers": lambda: len(qwen().model.layers),
    "qwen.last-layer": lambda: len(qwen().model.layers) - 1,
    "qwen.last-but-one": lambda: len(qwen().model.layers) - 2,
    "qwen.last-but-two": lambda: len(qwen().model.layers) - 3,
    "qwen.millions": lambda: sum(p.numel() for p in qwen().parameters()) / 1e6,
    "qwen.bf16-gb": lambda: sum(p.numel() for p in qwen().parameters()) * 2 / 1e9,
    "qwen.share-of-two-layers": lambda: qwen_share(2),
    "qwen.share-of-three-layers": lambda: qwen_share(3),
    "adapt.layers": lambda: training.Recipe.layers,
    "rate.pretrained": lambda: training.default_learning_rate(qwen()),
    "rate.nano": small_rate,
    "rate.nano-eight": lambda: small_rate(8),
    "batch.queries": lambda: training.recipe.LARGER_STEPS_FROM,
    "bootstrap.rounds": lambda: default(paired_bootstrap, "rounds"),
    "bootstrap.percent": lambda: 100 * default(paired_bootstrap, "level"),
    "gate.margin": lambda: default(decide, "margin"),
    "interpolate.allowed": lambda: continual._SETTINGS["allowed"],
    "probability.of-minus-1.2": lambda: sigmoid(np.array(-1.2)),
    "probability.of-0": lambda: sigmoid(np.array(0.0)),
    "lesson02.lines": lambda: len(faulty_file()[0]),
    "lesson02.problems": lambda: len(faulty_file()[1]),
    "lesson02.same-question": lambda: next(i for i, x in enumerate(faulty_file()[0], 1) if '"What is gout?"' in x),
    "export.tolerance": export_tolerance,
    "lesson05.mrr-of-second": lambda: mrr_at_k([5, 4, 3, 2, 1], [1, 0, 0, 0, 1]),
}


def value(text):
    """Return the number that a text or number word stands for."""
    return float(text.replace(",", "")) if text[-1].isdigit() else float(WORDS.index(text.lower()))


def agrees(text, fact):
    """Return whether a typed number equals the fact, rounded to the digits that were typed."""
    if "e" in text and text[-1].isdigit():
        return value(text) == pytest.approx(fact, rel=1e-9)
    decimals = len(text.partition(".")[2])
    return value(text) == pytest.approx(round(float(fact), decimals), abs=1e-9)


def name(path):
    return path.relative_to(ROOT / "notebooks").as_posix()


def marked():
    return [(p, m["number"], m["name"]) for p in NOTEBOOKS for t in cells(p, "markdown") for m in FACT.finditer(t)]


def test_every_marked_number_equals_what_the_code_says():
    for path, number, fact in marked():
        assert fact in FACTS, f"{name(path)}: there is no fact {fact}"
        assert agrees(number, FACTS[fact]()), f"{name(path)} says {number}, but {fact} is {FACTS[fact]()}"


def test_every_fact_is_used_and_every_mark_stands_behind_a_number():
    assert set(FACTS) == {fact for _, _, fact in marked()}
    for path in NOTEBOOKS:
        for text in cells(path, "markdown"):
            assert len(FACT.findall(text)) == text.count("<!-- fact"), name(path)


def unmarked_decimals(markdown, code):
    """Return the decimal numbers of markdown texts that have no mark and stand in no code."""
    out = []
    settings = {float(x) for t in code for x in re.findall(r"\d+\.\d+", t)}
    settings |= {round(100 * x, 6) for x in settings}  # 2.5 % in words is 0.025 in code
    for text in markdown:
        text = re.sub(r"```.*?```|`[^`\n]*`|<code>.*?</code>", "", text, flags=re.S)
        for line in text.splitlines():
            if "<!-- source -->" in line:
                assert re.search(r"\]\(http|arXiv|README of|blog", line), f"a quoted figure without its source: {line}"
                continue
            if "<!-- example -->" in line:
                continue
            line = re.sub(
                r"\]\([^)]*\)|arXiv \d{4}\.\d{5}|Qwen3-Reranker-0\.6B|the 0\.6B model", "", FACT.sub("", line)
            )
            out += [x for x in re.findall(r"(?<![\w.])[-+−]?\d[\d,]*\.\d+", line) if abs(float(x.replace("−", "-").replace(",", ""))) not in settings]  # fmt: skip
    return out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_typed_decimal_is_a_fact_a_quotation_an_example_or_a_setting(path):
    # The first cell holds the measured time and memory, which scripts write.
    assert unmarked_decimals(cells(path, "markdown")[1:], cells(path, "code")) == []


def test_the_search_for_unmarked_numbers_finds_them():
    assert unmarked_decimals(["it gained +0.05, and 2.5 GB"], []) == ["+0.05", "2.5"]
    assert (
        unmarked_decimals(["a margin of 0.95", "`0.3`", "arXiv 2109.01903", "0.23<!-- fact: x -->"], ["m = 0.95"]) == []
    )
    assert unmarked_decimals(["it reached 0.71 <!-- example -->\nand 0.72"], []) == ["0.72"]
    with pytest.raises(AssertionError, match="without its source"):
        unmarked_decimals(["65.80 on MTEB-R <!-- source -->"], [])


@pytest.mark.parametrize(
    ("text", "fact", "right"),
    [("28", 28, True), ("28", 27, False), ("595.8", 595.776512, True), ("595.9", 595.776512, False), ("Six", 6, True),
     ("six", 7, False), ("2e-5", 2e-5, True), ("2e-5", 2e-4, False), ("10,000", 10_000, True), ("8", 7.92, True)],
)  # fmt: skip
def test_a_number_is_compared_as_it_is_rounded(text, fact, right):
    assert agrees(text, fact) == right


def test_lesson_05_glosses_every_chinese_topic_that_it_can_show():
    from course_utils.data.cases import read_cases

    code = next(t for t in cells(ROOT / "notebooks" / "05_evaluation.ipynb", "code") if "TOPICS = {" in t)
    known = {}
    exec(code[code.index("TOPICS = {") :].split("# fmt: skip")[0], known)
    cases = read_cases("medical", "zh")
    assert set(known["TOPICS"]) == {t for t in cases.topics() if cases.splits[t] == "dev"}
    assert all(gloss.isascii() for gloss in known["TOPICS"].values())
