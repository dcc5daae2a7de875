"""Tables that say less than they hold: a wrong size, errors in cells, empty columns, lines that are no rows."""

import re
import zipfile

import openpyxl
import pytest

from course_utils.cli import main
from course_utils.data import read_data, read_passages
from course_utils.data.tables import _decode, _open_table
from course_utils.errors import InputError


def book(path, *rows, kind=None):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if kind:
        book.active.cell(len(rows), 2).data_type = kind
    book.save(path)
    return path


def texts(found):
    return [(g.query, *g.documents) for g in found.groups]


def test_all_rows_are_read_whatever_the_sheet_says_of_its_size(tmp_path):
    rows = [(f"q{i}", f"a{i}") for i in range(40)]
    book(tmp_path / "all.xlsx", ("Question", "Answer"), *rows)
    with zipfile.ZipFile(tmp_path / "all.xlsx") as old, zipfile.ZipFile(tmp_path / "q.xlsx", "w") as new:
        for item in old.namelist():
            new.writestr(item, re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:B11"', old.read(item)))
    assert texts(read_data(tmp_path / "q.xlsx")) == rows


def test_an_error_in_a_cell_is_no_text_and_a_return_is_none_either(tmp_path):
    head, row = ("Question", "Answer"), ("q", "Ask the ward._x000D_\nThen_x000D_the office.")
    assert texts(read_data(book(tmp_path / "q.xlsx", head, row))) == [("q", "Ask the ward.\nThen\nthe office.")]
    with pytest.raises(InputError, match="row 3: no text for the document"):
        read_data(book(tmp_path / "e.xlsx", head, row, ("r", "#N/A"), kind="e"))
    assert texts(read_data(book(tmp_path / "t.xlsx", head, ("r", "#N/A"), kind="s"))) == [
        ("r", "#N/A")
    ]  # somebody typed it


def test_columns_that_are_empty_are_left_out(tmp_path):
    path = book(tmp_path / "q.xlsx", (None, None, "Question", None, "Answer"), (None, None, "q", None, "a"))
    assert texts(read_data(path)) == [("q", "a")]
    (tmp_path / "q.csv").write_text(";;Question;Answer\n;;q;a\n")
    assert texts(read_data(tmp_path / "q.csv")) == [("q", "a")]


@pytest.mark.parametrize("name", ["Frage (Kurz)", "Frage\n(Kurz)"])
def test_a_name_of_several_lines_is_given_in_one(tmp_path, name):
    (tmp_path / "q.csv").write_text('Stand: Mai;\n"Frage\n(Kurz)";Antwort\nq;a\n')
    columns = {"query": name, "document": "Antwort"}
    assert texts(read_data(tmp_path / "q.csv", columns)) == [("q", "a")]
    path = book(tmp_path / "q.xlsx", ("Frage \n(Kurz)", "Antwort"), ("q", "a"))
    assert texts(read_data(path, columns)) == [("q", "a")]


def test_a_separator_in_a_text_makes_no_list_of_a_table(tmp_path):
    path = tmp_path / "handbook.csv"
    path.write_text("Ref;Code\n1;Wear masks.\n2;Forms go up; see 9.\n3;Leave at eight.\n")
    with pytest.raises(InputError, match=r"line 3: 3 cells, and the header has 2 \(Ref, Code\); quote texts"):
        read_passages(path)
    with pytest.raises(InputError, match="line 3: 3 cells"):
        read_data(path)
    path.write_text("Ref,Text\n1,Masks, gowns.\n2,Forms, bills, stamps.\n")
    with pytest.raises(InputError, match="line 2: 3 cells"):
        read_passages(path)


@pytest.mark.parametrize("head", ["First, wash.", "text", "Wash,rinse", "Masks are worn, gowns not."])
def test_a_list_of_sentences_stays_one(tmp_path, head):
    path = tmp_path / "list.csv"
    path.write_text(f"{head}\nMasks, gowns, gloves.\nLeave at eight.\nForms go up, see 9.\nBills, stamps, and forms.\n")
    assert len(read_passages(path)[0]) == 4 + (head != "text")


def test_a_quote_that_may_be_missing_is_said(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text('question;answer\nq1;a1\nq2;"a2\nq3;a3\nq4;a4"\nq5;a5\n')
    assert "line 3: a quoted text runs over 3 lines and holds the separator: is a quote missing?" in str(
        read_data(path)
    )
    path.write_text('question,answer\nq1,"Wash, then\nrinse, then\ndry."\nq2,a2\n')
    assert "quoted" not in str(read_data(path))


def test_a_quote_that_may_be_missing_is_said_of_a_plain_file_too(tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    path.write_text('query,document,relevance\nq1,d1,1\nq2,"d2,0\nq3,d3,1\nq4,d4",0\nq5,d5,1\nq1,d6,0\n')
    assert main(["data", "check", str(path)]) == 0
    assert "pairs.csv: line 3: a quoted text runs over 3 lines" in capsys.readouterr().err
    path.write_text('query,document,relevance\nq1,"d1, then\nd2",1\nq1,d6,0\n')
    assert main(["data", "check", str(path)]) == 0
    assert "quoted" not in capsys.readouterr().err


def test_ids_are_read_as_the_sheet_shows_them(tmp_path):
    path = book(tmp_path / "h.xlsx", ("No", "Text", "Weight"), (7, "wash", 0.25), (1.1, "rinse", 0.5), (12, "dry", 1.0))
    own = openpyxl.load_workbook(path)
    for cell, shape in (("A2", "000"), ("A3", "0.00"), ("A4", "0"), ("C2", "0.0"), ("C3", "0.0")):
        own.active[cell].number_format = shape
    own.save(path)
    assert [p.id for p in read_passages(path)[0]] == ["007", "1.10", "12"]
    rows = [row for _where, row in _open_table(path)[0]]
    assert [row["Weight"] for row in rows] == [0.25, "0.5", 1.0], "nothing is rounded"


@pytest.mark.parametrize(
    "text", ["query,answer\nwhy,because\n", "问题,答案\n" + "为什么洗手,因为手上有看不见的细菌\n" * 9]
)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-8"])
def test_utf16_without_its_mark_is_found(tmp_path, text, encoding):
    (tmp_path / "q.csv").write_bytes(text.encode(encoding))
    assert _decode((tmp_path / "q.csv").read_bytes(), "q.csv") == (text, encoding)
    (tmp_path / "q.md").write_bytes(text.encode(encoding))
    assert read_passages(tmp_path / "q.md")[0][0].text == text.strip()


def test_a_stray_zero_makes_no_utf16():
    for raw in (b"query,answer\nwhy,be\0cause", b"query,answer\nwhy,because!\0"):
        assert _decode(raw, "q.csv") == (raw.decode(), "utf-8")
