"""Reading, checking, grouping and splitting labelled pairs; leaks; the report; public sets."""

import csv
import json
import tracemalloc

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from course_utils import data
from course_utils.cli.rank import read_documents
from course_utils.data import near
from course_utils.data import report as data_report
from course_utils.data.groups import Group
from course_utils.data.read import FIELDS
from course_utils.errors import InputError
from course_utils.model import prompt
from course_utils.text import normalise

ROWS = [
    {"query": "糖尿病症状", "document": "糖尿病常见症状包括多饮、多尿。", "relevance": 1},
    {"query": "糖尿病症状", "document": "低盐饮食有助于控制血压。", "relevance": 0},
    {
        "query": "what, then, is gout?",
        "document": 'A joint disease, also "the king\'s disease".\nIt hurts.',
        "relevance": 1,
    },
    {"query": "what, then, is gout?", "document": "Flu is caused by a virus.", "relevance": 0},
]
TRIPLES = [(r["query"], r["document"], r["relevance"]) for r in ROWS]


def write(path, rows=ROWS):
    """Write rows in the format that the name of the file says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".JSON"])
def test_every_format_gives_the_same_pairs(tmp_path, suffix):
    path = write(tmp_path / f"pairs{suffix.lower()}").rename(tmp_path / f"Pairs{suffix}")
    assert data.read_pairs(path) == TRIPLES
    assert data.read_pairs(str(path)) == TRIPLES


def test_a_dataset_and_a_list_of_dicts_read_like_a_file():
    assert data.read_pairs(datasets.Dataset.from_list(ROWS)) == TRIPLES
    assert data.read_pairs(ROWS) == TRIPLES
    assert data.read_pairs(datasets.Dataset.from_list(ROWS).to_iterable_dataset()) == TRIPLES


def test_labels_that_mean_whole_numbers_are_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("relevance,query,document,note\n1.0,q,a,x\n 0 ,q,b,y\n")
    assert data.read_pairs(path) == [("q", "a", 1), ("q", "b", 0)]
    rows = [{"query": "q", "document": str(i), "relevance": label} for i, label in enumerate([True, 0.0, np.int64(1)])]
    assert [label for _, _, label in data.read_pairs(rows)] == [1, 0, 1]


def test_grades_are_read_when_asked_for():
    rows = [{"query": "q", "document": str(i), "relevance": i} for i in range(4)]
    assert [label for _, _, label in data.read_pairs(rows, max_relevance=3)] == [0, 1, 2, 3]
    with pytest.raises(data.DataError, match="whole number from 0 to 2") as caught:
        data.read_pairs(rows, max_relevance=2)
    assert caught.value.counts == {"wrong label": 1}


def jsonl(**changes):
    return json.dumps({"query": "q", "document": "d", "relevance": 1, **changes}).encode()


GOOD = json.dumps({"query": "other", "document": "text", "relevance": 0}).encode()

BROKEN_LINES = {
    "missing field": (b'{"query": "q", "relevance": 1}', 'field "document" is missing'),
    "missing field (null)": (jsonl(document=None), 'field "document" is missing'),
    "wrong type": (jsonl(query=3), 'field "query" is int, not text'),
    "empty text": (jsonl(document=" \n\t"), 'field "document" is empty'),
    "wrong label": (jsonl(relevance=2), "field \"relevance\" is 2, not 0 or 1"),
    "wrong label (text)": (jsonl(relevance="yes"), "field \"relevance\" is 'yes', not 0 or 1"),
    "wrong label (half)": (jsonl(relevance=0.5), 'field "relevance" is 0.5'),
    "wrong label (NaN)": (jsonl(relevance=float("nan")), 'field "relevance" is nan'),
    "wrong label (infinite)": (jsonl(relevance=float("inf")), 'field "relevance" is inf'),
    "wrong label (negative)": (jsonl(relevance=-1), 'field "relevance" is -1'),
    "wrong label (list)": (jsonl(relevance=[1]), 'field "relevance" is a list'),
    "wrong label (huge)": (jsonl(relevance=10**4000), 'field "relevance" is a int'),
    "broken JSON": (b'{"query": "q", "document": "d" "relevance": 1}', "delimiter at line 1 column 32"),
    "broken JSON (number)": (b'{"query": "q", "document": "d", "relevance": ' + b"9" * 5000 + b"}", "digits"),
    "broken JSON (deep)": (b"[" * 100_000, "nested too deeply"),
    "broken JSON (twice)": (b'{"query": "q", "query": "r", "document": "d", "relevance": 1}', '"query" stands twice'),
    "not a record": (b'["q", "d", 1]', "found list"),
    "not UTF-8": ('{"query": "\u5fc3", "document": "d", "relevance": 1}'.encode("gbk"), "byte 12 is not UTF-8"),
    "not UTF-8 (half)": (jsonl(query="\ud800"), 'field "query" holds half a character'),
    "duplicate pair": (GOOD, "same query and document as line 1"),
    "contradictory pair": (GOOD.replace(b": 0}", b": 1}"), "same query and document as line 1, other relevance"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_LINES)
def test_an_error_names_file_row_field_and_count(tmp_path, case):
    line, message = BROKEN_LINES[case]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n")
    with pytest.raises(data.DataError) as caught:
        data.read_pairs(path)
    kind = case.split(" (")[0]
    assert caught.value.counts == {kind: 1}
    assert str(path) in str(caught.value) and f"1 x {kind}" in str(caught.value)
    assert caught.value.problems[0].startswith("line 3: ") and message in caught.value.problems[0]


def test_all_problems_are_counted_and_the_first_three_shown():
    rows = [{"query": "", "document": None, "relevance": 7} for _ in range(5)]
    with pytest.raises(data.DataError) as caught:
        data.read_pairs(rows)
    assert caught.value.counts == {"missing field": 5, "empty text": 5, "wrong label": 5}
    assert len(caught.value.problems) == 15 and "(and 12 more)" in str(caught.value) and "row 1" in str(caught.value)


BROKEN_FILES = {
    "folder.jsonl": (None, "is a folder"),
    "pairs.xlsx": (b"x", "unknown format .xlsx; use .json, .jsonl"),
    "pairs": (b"x", "unknown format (no suffix)"),
    "empty.jsonl": (b"", "holds no pairs"),
    "blank.jsonl": (b"\n \n", "holds no pairs"),
    "empty.json": (b"[]", "holds no pairs"),
    "empty.csv": (b"", "holds no pairs"),
    "head.csv": (b"query,document,relevance\n", "holds no pairs"),
    "lines.json": (GOOD + b"\n" + GOOD, "then name the file .jsonl"),
    "object.json": (GOOD, "one list of records"),
    "latin.json": (b"[\xff]", "byte 2 is not UTF-8"),
    "semicolon.csv": (b"query;document;relevance\nq;d;1\n", 'no column is named "query"; the columns are: query;doc'),
    "twice.csv": (b"query,document,relevance,query\nq,d,1,q\n", 'the column "query" stands twice'),
    "short.csv": (b"query,document,relevance\nq,d\n", 'line 2: field "relevance" is missing'),
    "long.csv": (b"query,document,relevance\nq,d, and more,1\n", "line 2: more cells than the header names"),
    "quote.csv": (b'query,document,relevance\nq,"d,1\nq,e,0\n', "unexpected end of data"),
    "latin.csv": ("query,document,relevance\nqué,d,1\n".encode("latin-1"), "line 2: a byte is not UTF-8"),
    "utf16.csv": ("query,document,relevance\nq,d,1\n".encode("utf-16"), "the header is not UTF-8"),
    "digits.csv": (b"query,document,relevance\nq,d," + b"9" * 5000 + b"\n", 'field "relevance" is'),
    "text.parquet": (b"no such thing", "broken Parquet"),
    "empty.parquet": (b"", "broken Parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path, name):
    content, message = BROKEN_FILES[name]
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    for read in (data.read_pairs, data_report.check_file):
        with pytest.raises(InputError) as caught:
            read(path)
        assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_cell_may_be_as_long_as_a_document(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_bytes(b"query,document,relevance\nq," + b"x" * 200_000 + b",1\n")
    assert data.read_pairs(path) == [("q", "x" * 200_000, 1)]


def test_documents_are_split_at_newlines_only(tmp_path):
    text = "one\u2028still one\r\n\ntwo\x0cstill two \n three\x85still\x1cthree"
    expected = ["one\u2028still one", "two\x0cstill two", "three\x85still\x1cthree"]
    path = tmp_path / "documents.txt"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_documents(str(path)) == expected
    (tmp_path / "blank").write_bytes(b"\n \n")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for name, message in (
        ("blank", "holds no document"),
        ("latin", "byte 4 is not UTF-8"),
        (".", "is a folder"),
        ("none", "There is no file"),
    ):
        with pytest.raises(InputError, match=message):
            read_documents(str(tmp_path / name))


def test_a_missing_file_or_something_else_is_an_error(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        data.read_pairs(tmp_path / "pairs.json")
    with pytest.raises(InputError, match="of several splits, give one"):
        data.read_pairs(datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)))
    with pytest.raises(InputError, match="NoneType"):
        data.read_pairs(None)
    with pytest.raises(data.DataError, match="by name, found tuple"):
        data.read_pairs(TRIPLES)


def test_a_parquet_file_with_other_columns_or_lost_rows_is_an_error(tmp_path, monkeypatch):
    path = write(tmp_path / "pairs.parquet", [{"text": "a", "label": 1}])
    with pytest.raises(InputError, match='no column is named "query"; the columns are: text, label'):
        data.read_pairs(path)
    path = write(tmp_path / "pairs.parquet", ROWS)
    whole = pyarrow.parquet.ParquetFile.iter_batches
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", lambda *a, **k: (b[:3] for b in whole(*a, **k)))
    with pytest.raises(InputError, match="3 rows where 4 are announced"):
        data.read_pairs(path)


def test_repeated_pairs_can_be_dropped():
    again = [*ROWS, ROWS[0], {**ROWS[1], "relevance": 1}]
    assert data.read_pairs(again, drop_repeated=True) == TRIPLES


def test_groups_keep_order_and_subsets_are_repeatable():
    groups = data.read_groups([ROWS[0], ROWS[2], ROWS[1]])
    assert [g.query for g in groups] == ["糖尿病症状", "what, then, is gout?"]
    assert groups[0].documents == (ROWS[0]["document"], ROWS[1]["document"]) and groups[0].relevance == (1, 0)
    assert groups[0].positives == [ROWS[0]["document"]]
    assert data.rankable(groups) == groups[:1]
    many = [Group(f"q{i}", ("a", "b"), (1, 0)) for i in range(50)]
    part = data.subset(many, 10, seed=3)
    assert part == data.subset(many, 10, seed=3) != data.subset(many, 10, seed=4)
    assert len(part) == 10 and part == sorted(part, key=many.index)
    assert data.subset(many, 99) == many == data.subset(many, None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is GOUT?", "what  is - gout", True),
        ("糖尿病，症状", "糖尿病 症状。", True),
        ("ＡＢＣ１２", "abc12", True),
        ("a b", "ab", False),
        ("gout", "gouty", False),
        ("?", "!", False),
        ("कि", "का", False),
    ],
)
def test_normalising_ignores_case_width_punctuation_and_spaces(one, other, same):
    assert (normalise(one) == normalise(other)) is same


def many_groups(n=120):
    return [Group(f"question {i}", (f"answer {i}", f"wrong {i}"), (1, 0), f"topic {i // 6}") for i in range(n)]


def test_a_split_by_query_keeps_every_query_once():
    groups = many_groups()
    parts = data.split(groups, (0.7, 0.1, 0.2), seed=1)
    assert [len(p) for p in parts] == [84, 12, 24]
    assert sorted(g.query for p in parts for g in p) == sorted(g.query for g in groups)
    assert parts == data.split(groups, (0.7, 0.1, 0.2), seed=1) != data.split(groups, (0.7, 0.1, 0.2), seed=2)


def test_a_split_by_topic_keeps_topics_whole():
    train, dev, test = data.split(many_groups(), by="topic")
    topics = [{g.topic for g in part} for part in (train, dev, test)]
    assert not topics[0] & topics[1] and not topics[0] & topics[2] and not topics[1] & topics[2]
    assert [len(t) for t in topics] == [14, 2, 4]


def test_a_split_keeps_similar_queries_and_shared_answers_together():
    groups = []
    for i in range(40):
        groups.append(Group(f"Question {i}?", (f"answer {i}", "x"), (1, 0)))
        groups.append(Group(f"question {i}", (f"answer {i}b", "y"), (1, 0)))
        groups.append(Group(f"asked otherwise {i}", (f"Answer {i}b.", "z"), (1, 0)))
    for seed in range(5):
        train, test = data.split(groups, (0.5, 0.5), seed=seed)
        found = data.leaks(train, test)
        assert (found.queries, found.documents) == ([], [])
        data.check_no_leak(train, test)


def test_a_split_that_cannot_be_made_is_an_error():
    with pytest.raises(InputError, match="do not sum to 1"):
        data.split(many_groups(), (0.5, 0.2))
    with pytest.raises(InputError, match='choose "query" or "topic"'):
        data.split(many_groups(), by="document")
    with pytest.raises(InputError, match="too few for 3 parts"):
        data.split(many_groups(2))
    one_answer = [Group(f"q{i}", ("the same", "x"), (1, 0)) for i in range(30)]
    with pytest.raises(InputError, match="30 queries in 1 independent blocks"):
        data.split(one_answer)


def test_leaks_are_found_whatever_the_punctuation():
    train = [Group("What is gout?", ("A joint disease.", "shared wrong"), (1, 0))]
    test = [
        Group("what is GOUT", ("another", "b"), (1, 0)),
        Group("joints", ("a joint disease", "shared wrong"), (1, 0)),
    ]
    found = data.leaks(train, test)
    assert ([t for _, t, _ in found.queries], [t for _, t, _ in found.documents]) == (
        ["what is GOUT"],
        ["a joint disease"],
    )
    with pytest.raises(InputError, match=r'train and dev share 1 queries .*"what is GOUT".* and 1 relevant documents'):
        data.check_no_leak(train, test, ("train", "dev"))
    data.check_no_leak(train, [Group("joints", ("another", "shared wrong"), (1, 0))])


def test_answers_of_the_part_held_out_leave_the_training_lists():
    train = [Group("a", ("A", "c.", "x"), (1, 0, 0), "topic"), Group("b", ("B", "C"), (1, 0)), Group("d", ("D",), (1,))]
    held_out = [Group("c", ("C", "a!", "x"), (1, 0, 0))]
    assert data.without_answers(train, held_out) == [Group("a", ("A", "x"), (1, 0), "topic")]


def test_right_answers_of_the_test_are_found_among_training_negatives():
    text = "The nurse in charge signs the form before the patient leaves the ward on the day of discharge"
    train = [Group("a", ("A", "the  answer\u00a0 one.", "x"), (1, 0, 0)), Group("b", ("B", f"{text} again"), (1, 0))]
    test = [Group("c", ("The answer one", "x"), (1, 0)), Group("d", (text,), (1,))]
    found = data.leaks(train, test)
    assert [m[:2] for m in found.answers] == [("the  answer\u00a0 one.", "The answer one")]
    assert [m[:2] for m in found.near_answers] == [(f"{text} again", text)] and found
    assert not data.leaks(train, test, near=False).near_answers
    data.check_no_leak(train, test)  # mended by leaving them out, so no error
    assert data.without_answers(train, test) == [Group("a", ("A", "x"), (1, 0)), train[1]]
    assert data.without_answers(train, test, near=True) == [Group("a", ("A", "x"), (1, 0))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("q", "abc", (1, 0, 0)), "are one str; give a list"),
        (("q", ("a", None), (1, 0)), "is NoneType, not text"),
        ((7, ("a",), (1,)), "The query 7 is int"),
        (("q", ("a", "b"), (1,)), "2 documents, 1 labels"),
        (("q", ("a", "b"), (1, 0), "", (0.5,)), "1 scores"),
        (("q", ("a",), (float("nan"),)), "is not a number"),
        (("q", None, ()), "are one NoneType"),
    ],
)
def test_a_group_that_is_none_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Group(*arguments)


def test_a_group_takes_any_list_of_texts():
    assert Group("q", ["a", "b"], iter([1, 0])) == Group("q", ("a", "b"), (1, 0))


def test_near_duplicates_are_exactly_those_above_the_threshold():
    random_ = np.random.default_rng(0)
    texts = [" ".join(random_.choice(list("abcdefgh"), 12)) for _ in range(30)]
    texts += [t.replace("a", "z", 1) for t in texts[:15]] + ["", "a", "糖尿病的症状有哪些", "糖尿病的症状有哪些呢"]
    for threshold in (0.2, 0.5, 0.7, 1.0):
        brute = set()
        for i, a in enumerate(texts):
            for j, b in enumerate(texts):
                left, right = near._shingles(a, 2), near._shingles(b, 2)
                if len(left & right) / len(left | right) >= threshold:
                    brute.add((i, j))
        find = near._near_index(texts, threshold, width=2)
        assert {(i, j) for i, a in enumerate(texts) for j, _ in find(a)} == brute
    with pytest.raises(ValueError, match="threshold"):
        near._near_index(texts, 0)


def test_leakage_finds_texts_with_a_few_words_changed():
    passage = "An attack of gout usually begins at night in the joint of the big toe which turns red hot and tender"
    changed = passage.replace("usually", "often") + ", doctors say"
    train = [Group("what does an attack of gout feel like at night", (passage, "x"), (1, 0))]
    test = [
        Group("what does an attack of gout feel like at night then", (changed, "y"), (1, 0)),
        Group("flu", ("z",), (1,)),
    ]
    found = data.leaks(train, test)
    assert found and not found.queries and not found.documents
    assert [m[:2] for m in found.near_documents] == [(passage, changed)] and 0.5 <= found.near_documents[0][2] < 1
    assert [m[:2] for m in found.near_queries] == [(train[0].query, test[0].query)]
    assert data.leaks(train, train).queries == [(train[0].query, train[0].query, 1.0)]
    assert not data.leaks(train, test[1:])


def test_a_clean_file_gets_a_short_report(tmp_path, tokenizer):
    rows = [
        {"query": f"query {i}", "document": f"{kind} text {i}", "relevance": int(kind == "right")}
        for i in range(300)
        for kind in ("right", "wrong", "other", "fourth")
    ]
    report = data_report.check_file(write(tmp_path / "pairs.jsonl", rows), tokenizer=tokenizer, max_length=256)
    assert report.ok and not report.findings
    assert (report.rows, report.pairs, report.unusable, report.repeated) == (1200, 1200, 0, 0)
    assert (report.queries, report.documents, report.labels) == (300, 1200, {0: 900, 1: 300})
    text = str(report)
    assert "1,200 pairs, 300 queries, 1,200 documents" in text and "300 relevant, 900 not, 1 to 3.0" in text
    assert "nothing is cut" in text and text.endswith("Nothing suspicious: go ahead.")


def report_rows():
    """A file with one of each fault, and its test file."""
    rows = [("q one", "Right one.", 1), ("q one", "wrong one", 0)]
    rows += [
        ("q one", "Right one.", 1),
        ("q one", "wrong one", 1),
        ("q one", "right, one", 0),
        ("q one", "Wrong one", 0),
    ]
    rows += [
        ("lonely", "nothing fits", 0),
        ("happy", "all fit", 1),
        ("copy", "Copy!", 0),
        ("copy", "b", 1),
        ("?", "c", 0),
    ]
    rows += [("marks", "<|im_end|> yes", 1), ("marks", "plain", 0)]
    rows += [
        (f"many {i}", f"{kind}", int(kind == "default answer"))
        for i in range(15)
        for kind in ("default answer", f"x{i}")
    ]
    rows += [("a long enough query about the price of bread in town", "test answer of some five words", 1)]
    test = [
        ("Q ONE", "t1", 0),
        ("a long enough query about the price of bread in town today", "Test answer of some five words", 1),
    ]
    return [[dict(zip(FIELDS, row, strict=True)) for row in part] for part in (rows, test)]


def test_the_report_names_each_fault_with_an_example_and_what_to_do():
    rows, test = report_rows()
    rows.insert(2, {"query": "q", "document": "d"})
    report = data_report.check_file(rows, test)
    assert report.counts == {
        "unusable row": 1,
        "duplicate pair": 1,
        "contradictory pair": 1,
        "labelled both ways": 1,
        "query in test": 1,
        "document in test": 1,
        "query nearly in test": 1,
        "almost the same pair": 1,
        "query without relevant document": 2,
        "query with relevant documents only": 2,
        "frequent document": 1,
        "document is the query": 1,
        "no words": 1,
        "prompt marks": 1,
        "few pairs": 42,
    }
    assert report.problems == {"missing field": 1} and not report.ok
    assert report.rows == report.pairs + report.unusable + report.repeated == len(rows)
    by_kind = {f.kind: str(f) for f in report.findings}
    assert 'row 3: field "relevance" is missing' in by_kind["unusable row"]
    assert '"q one" / "Right one." (compare row 1)' in by_kind["duplicate pair"]
    assert 'row 6 "q one" / "right, one" (compare row 1)' in by_kind["labelled both ways"]
    assert '"lonely"' in by_kind["query without relevant document"]
    assert '"default answer"' in by_kind["frequent document"]
    assert "data split (data.split)" in by_kind["document in test"]
    for finding in by_kind.values():
        assert "For example" in finding or "Few pairs" in finding
    assert "Mend this before you use it:" in str(report) and "Have a look at this:" in str(report)


def test_grades_are_named_with_the_option_that_takes_them():
    rows = [{"query": f"q{i}", "document": f"d{i} {n}", "relevance": n} for i in range(3) for n in (0, 1, 3)]
    for highest, told in ((1, True), (2, True), (3, False)):
        assert (
            "--max-relevance 3 (max_relevance=3)" in str(data_report.check_file(rows, max_relevance=highest))
        ) == told
    rows[0]["relevance"] = 1000  # no grade
    report = str(data_report.check_file(rows))
    assert "--max-relevance" not in report and "Mend or delete them" in report


def test_files_without_right_or_wrong_documents_are_told():
    rows = [{"query": f"q{i}", "document": f"d{i}", "relevance": 1} for i in range(20)]
    report = data_report.check_file(rows)
    assert report.counts["no other document"] == 20 and "data prepare (negatives.mine)" in str(report) and not report.ok
    report = data_report.check_file([{**r, "relevance": 0} for r in rows])
    assert report.counts["no relevant document"] == 20 and "query without relevant document" not in report.counts


def test_balance_and_length_shortcuts_are_told():
    rows = [
        {"query": f"q{i // 3}", "document": "long " * 9 * (i % 3 > 0) + f"text {i}", "relevance": int(i % 3 > 0)}
        for i in range(300)
    ]
    counts = data_report.check_file(rows).counts
    assert counts["mostly relevant"] == 200 and counts["length tells"] == 100
    rows = [{"query": "q", "document": f"text {i}", "relevance": int(i == 0)} for i in range(200)]
    assert data_report.check_file(rows).counts["hardly relevant"] == 1


def test_lengths_are_those_of_the_whole_prompt(tokenizer):
    groups = [Group("what is gout", ("a joint disease", "word " * 300), (1, 0)), Group("flu", ("a virus",), (1,))]
    whole = [
        len(tokenizer.encode(prompt.prompt_text(g.query, d), add_special_tokens=False))
        for g in groups
        for d in g.documents
    ]
    lengths = data.token_lengths(groups, tokenizer, max_length=200)
    # Joined parts and one whole string may be cut into tokens differently at the two seams.
    assert sorted(lengths.counts.elements()) == pytest.approx(sorted(whole), abs=2)
    assert lengths.cut == 1 and lengths.longest == (max(lengths.counts), "query 1") and not lengths.too_long
    assert prompt._encode_groups(tokenizer, groups, max_length=200).truncated == lengths.cut
    assert lengths.quantile(0.3) == min(lengths.counts) and lengths.quantile(1) == max(lengths.counts)
    report = data_report.check_groups(groups, tokenizer=tokenizer, max_length=200)
    assert report.counts["cut document"] == 1 and "1 documents (33.3%) would be cut" in str(report)


def test_a_query_that_leaves_no_room_must_be_mended(tokenizer):
    groups = [Group("very long query " * 60, ("a", "b"), (1, 0))]
    report = data_report.check_groups(groups, tokenizer=tokenizer, max_length=128)
    assert report.counts["query too long"] == 1 and not report.ok
    with pytest.raises(InputError, match="too small"):
        prompt._encode_groups(tokenizer, groups, max_length=128)


def test_grades_in_a_report_go_to_255():
    rows = [{"query": "q", "document": str(i), "relevance": i} for i in (0, 254, 255)]
    assert data_report.check_file(rows, max_relevance=255).labels == {0: 1, 254: 1, 255: 1}
    with pytest.raises(InputError, match="255 at most"):
        data_report.check_file(rows, max_relevance=256)


def test_a_broken_test_file_is_an_error(tmp_path):
    with pytest.raises(data.DataError, match="the test data: 1 x missing field"):
        data_report.check_file(ROWS, [{"query": "q", "document": "d"}])
    with pytest.raises(InputError, match="holds no pairs"):
        data_report.check_file(ROWS, [])
    with pytest.raises(InputError, match="There is no file"):
        data_report.check_file(ROWS, tmp_path / "test.json")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_is_checked_as_a_stream(tmp_path, suffix):
    rows = ({"query": f"query {i}", "document": f"{i} " + "x" * 5000, "relevance": i % 2} for i in range(1000))
    path = tmp_path / f"large{suffix}"
    if suffix == ".parquet":
        with pyarrow.parquet.ParquetWriter(
            path,
            pyarrow.schema(
                [("query", pyarrow.string()), ("document", pyarrow.string()), ("relevance", pyarrow.int64())]
            ),
        ) as writer:
            for _ in range(10):
                writer.write_table(pyarrow.Table.from_pylist([next(rows) for _ in range(100)], writer.schema))
    else:
        write(path, rows)
    tracemalloc.start()
    report = data_report.check_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.pairs == 1000
    assert peak < 2.5e6  # bytes; the texts are 5 MB


def test_the_report_refuses_test_answers_among_training_negatives():
    test = [{"query": f"test {i}", "document": f"The answer  {i}.", "relevance": 1} for i in range(44)]
    rows = [{"query": f"q{i}", "document": f"d{i}", "relevance": 1} for i in range(173)]
    rows += [{"query": f"q{i}", "document": f"the answer\t{i % 32}", "relevance": 0} for i in range(173)]
    report = data_report.check_file(rows, test)
    assert not report.ok and report.counts["answer among negatives"] == 32
    assert "stand here as wrong documents: 32 of 44, in 173 rows" in str(report)
    assert "Against the test data: see below" in str(report)


def test_examples_hold_no_control_characters():
    rows = [{"query": "a\x1b[31mb\nc", "document": "A\x1b[31mB\nC" + "x" * 100, "relevance": 0}]
    text = str(data_report.check_file(rows * 2))
    assert "\x1b" not in text and "a?[31mb c" in text
