"""Broken files of every kind end in InputError or in a clean read: no other exception, no row lost in silence."""

import csv
import io
import json
from contextlib import suppress

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_utils.data.read import DataError, read_pairs
from course_utils.data.report import check_file
from course_utils.errors import InputError

quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)

ROWS = [
    {"query": "糖尿病症状", "document": "多饮、多尿。", "relevance": 1},
    {"query": "糖尿病症状", "document": "低盐, 饮食", "relevance": 0},
    {"query": "what is gout?", "document": 'A "joint" disease,\nit hurts', "relevance": 1},
    {"query": "what is gout?", "document": "Flu", "relevance": 0},
]


def content(suffix, rows=ROWS):
    """Return the bytes of a file of rows."""
    if suffix == ".json":
        return json.dumps(rows, ensure_ascii=False).encode()
    if suffix == ".jsonl":
        return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    if suffix == ".csv":
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue().encode()
    sink = pyarrow.BufferOutputStream()
    # Uncompressed: a changed byte then reaches the values.
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink, compression="none")
    return sink.getvalue().to_pybytes()


SUFFIXES = [".json", ".jsonl", ".csv", ".parquet"]
WHOLE = {suffix: content(suffix) for suffix in SUFFIXES}


def records(path):
    """Return how many records a readable file holds, counted without the code under test."""
    raw = path.read_bytes()
    if path.suffix == ".json":
        return len(json.loads(raw.decode("utf-8-sig")))
    if path.suffix == ".jsonl":
        return sum(bool(line.strip()) for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    if path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig", errors="replace"), newline="")))
        return sum(bool(row) for row in rows) - 1
    return pyarrow.parquet.ParquetFile(path).metadata.num_rows


def check(path):
    """Read the file both ways; assert that each ends well, that both agree, and that no row is lost."""
    try:
        pairs, error = read_pairs(path), None
    except InputError as caught:
        pairs, error = None, caught
        assert str(path) in str(error) and len(str(error)) < 2000
    try:
        report = check_file(path)
    except InputError as caught:
        assert pairs is None and str(path) in str(caught)
        return
    assert str(report)
    assert report.rows == report.pairs + report.unusable + report.repeated
    if pairs is not None:
        assert len(pairs) == report.pairs == report.rows == records(path)
        assert not report.problems and not {"duplicate pair", "contradictory pair"} & report.counts.keys()
    else:
        assert isinstance(error, DataError)
        copies = error.counts.pop("duplicate pair", 0), error.counts.pop("contradictory pair", 0)
        assert error.counts == report.problems and sum(copies) == report.repeated
        assert copies == tuple(report.counts.get(k, 0) for k in ("duplicate pair", "contradictory pair"))
        # A CSV file cannot be read on behind a broken quote, and says so; all other files are read to their end.
        if not any(kind in report.problems for kind in ("broken CSV", "broken Parquet")):
            assert report.rows == records(path)


@st.composite
def mutated(draw, whole):
    """Return bytes of a whole file with one to three places changed: cut, doubled, overwritten, swapped or lost."""
    raw = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        a, b = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
        kind = draw(st.sampled_from(["flip", "delete", "repeat", "insert", "truncate", "mark"]))
        if kind == "flip" and a < len(raw):
            raw[a] ^= 1 << draw(st.integers(0, 7))
        elif kind == "delete":
            del raw[a : min(b, a + draw(st.integers(1, 40)))]
        elif kind == "repeat":
            raw[b:b] = raw[a:b]
        elif kind == "insert":
            raw[a:a] = draw(st.binary(max_size=8))
        elif kind == "truncate":
            del raw[b:]
        elif kind == "mark":
            raw[a:a] = draw(
                st.sampled_from([b'"', b",", b"\n", b"\r", b"\x00", b"\xef\xbb\xbf", b"{", b"]", b"null", b"\\ud800"])
            )
    return bytes(raw)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@quick
@given(data=st.data())
def test_a_mutated_file_ends_in_an_error_or_a_clean_read(tmp_path, suffix, data):
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(data.draw(mutated(WHOLE[suffix])))
    check(path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@quick
@given(raw=st.binary(max_size=200))
def test_random_bytes_end_in_an_error(tmp_path, suffix, raw):
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(raw)
    with pytest.raises(InputError):
        read_pairs(path)
    check(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELD = st.sampled_from(["q", "Q?", " d ", "", 0, 1]) | JSON
RECORD = st.dictionaries(st.sampled_from(["query", "document", "relevance", "note"]), FIELD, max_size=4) | JSON


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@quick
@given(rows=st.lists(RECORD, min_size=1, max_size=5))
def test_records_with_any_value_end_in_an_error_or_a_clean_read(tmp_path, suffix, rows):
    path = tmp_path / f"pairs{suffix}"
    path.write_text(
        json.dumps(rows) if suffix == ".json" else "".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8"
    )
    check(path)


@pytest.mark.slow
@quick
@given(rows=st.lists(RECORD, max_size=5))
def test_lists_of_anything_end_in_an_error_or_a_clean_read(rows):
    with suppress(InputError):
        assert len(read_pairs(rows)) == len(rows)
    with suppress(InputError):
        assert check_file(rows).rows == len(rows)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@quick
@given(pairs=st.dictionaries(st.tuples(TEXT, TEXT), st.integers(0, 1), min_size=1, max_size=6))
def test_every_pair_that_is_written_is_read_again(tmp_path, suffix, pairs):
    stripped = {(q.strip(), d.strip()): label for (q, d), label in pairs.items()}
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(
        content(suffix, [{"query": q, "document": d, "relevance": label} for (q, d), label in stripped.items()])
    )
    assert read_pairs(path) == [(q, d, label) for (q, d), label in stripped.items()]
    check(path)
