"""Files of any shape, broken in any way, end in an InputError or in groups: no other exception."""

import io
import json

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_utils.data import read_data, read_passages
from course_utils.errors import InputError

quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
NAMES = [
    "query",
    "question",
    "anchor",
    "document",
    "text",
    "answer",
    "positive",
    "negative",
    "negative_1",
    "pos",
    "neg",
    "response",
    "rejected_response",
    "docs",
    "labels",
    "label",
    "relevance",
    "score",
    "passages",
    "messages",
    "positive_messages",
    "negative_messages",
    "instruction",
    "prompt",
    "topic",
    "pos_scores",
    "title",
]
CHAT = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", 1]), "content": st.text(max_size=5)}), max_size=2
)
VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=5) | st.integers(0, 1) | st.none(), max_size=3)
    | CHAT
    | st.lists(CHAT, max_size=2)
    | st.lists(st.fixed_dictionaries({"text": st.text(max_size=5), "is_selected": st.integers(0, 1)}), max_size=2)
    | st.fixed_dictionaries({"passage_text": st.lists(st.text(max_size=4), max_size=2), "is_selected": st.lists(st.integers(0, 1), max_size=2)})
)  # fmt: skip
RECORD = st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=5)


def check(source, **options):
    """Read; assert that it ends well and that groups hold what a group may hold."""
    try:
        found = read_data(source, **options)
    except InputError as error:
        assert str(error)
        return
    assert found.groups and str(found)
    for g in found.groups:
        assert g.query and all(g.documents) and all(isinstance(r, int) and r >= 0 for r in g.relevance)


@pytest.mark.slow
@quick
@given(records=st.lists(RECORD, max_size=3))
def test_records_of_any_shape_end_in_an_error_or_in_groups(records):
    check(records)
    check([{**r, "query": "q"} for r in records], threshold=1)


def whole(suffix):
    """Return the bytes of a good file."""
    rows = [("Question", "Paragraph", "Label"), ("what, then", "an answer", 1), ("was ist", "a; wrong\none", 0)]
    if suffix == ".xlsx":
        book, out = openpyxl.Workbook(), io.BytesIO()
        for row in rows:
            book.active.append(row)
        book.save(out)
        return out.getvalue()
    if suffix == ".jsonl":
        return "".join(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n" for row in rows[1:]).encode()
    return "".join(";".join(f'"{cell}"' for cell in row) + "\r\n" for row in rows).encode("utf-8-sig")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".jsonl", ".xlsx"])
@quick
@given(
    place=st.floats(0, 1),
    kind=st.sampled_from(["cut", "flip", "insert", "none"]),
    raw=st.binary(min_size=1, max_size=6),
)
def test_a_broken_file_of_any_kind_ends_in_an_error_or_in_groups(tmp_path, suffix, place, kind, raw):
    content = whole(suffix)
    i = int(place * (len(content) - 1))
    content = {
        "cut": content[:i],
        "flip": content[:i] + bytes([content[i] ^ raw[0]]) + content[i + 1 :],
        "insert": content[:i] + raw + content[i:],
        "none": raw * 9,
    }[kind]
    path = tmp_path / f"in{suffix}"
    path.write_bytes(content)
    check(path)
    try:
        passages, _ = read_passages(path, size=10)
        assert all(p.text.strip() for p in passages)
    except InputError:
        pass
    assert path.read_bytes() == content


@pytest.mark.slow
@quick
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    suffix=st.sampled_from([".md", ".html", ".txt"]),
)
def test_any_text_is_cut_into_passages(tmp_path, text, suffix):
    path = tmp_path / f"page{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        passages, _ = read_passages(path, size=10)
    except InputError as error:
        assert "holds no text" in str(error)
        return
    assert len({p.id for p in passages}) == len(passages)
