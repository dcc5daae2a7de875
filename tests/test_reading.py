"""Files as people have them: every shape is read as meant, and what is not certain is an error that lists the choices."""

import csv
import json

import datasets
import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from course_utils import data
from course_utils.data import Group, convert, read_data
from course_utils.errors import InputError

Q, A, B, C = "how to ease a sprain", "Ice eases a sprain.", "A loan has a fixed rate.", "Rinse the rice."
Q2 = "what is a fixed rate"
CHAT = {"role": "user", "content": Q}


def said(text):
    return {"role": "assistant", "content": text}


# name -> (records, expected groups as (query, documents, relevance, scores, instruction, topic), what the paragraph says)
SHAPES = {
    "FlagEmbedding": ([{"query": Q, "pos": [A], "neg": [B, C]}], [(Q, (A, B, C), (1, 0, 0))], "(query, pos, neg)"),
    "FlagEmbedding with scores and prompt": (
        [{"query": Q, "pos": [A], "neg": [B], "pos_scores": [4.5], "neg_scores": [-1], "prompt": "Find help", "type": "x"}],
        [(Q, (A, B), (1, 0), (4.5, -1.0), "Find help")],
        "Scores of a teacher are kept",
    ),
    "ms-swift, old": (
        [{"query": Q, "response": A, "rejected_response": [B, C]}],
        [(Q, (A, B, C), (1, 0, 0))],
        "(query, response, rejected_response)",
    ),
    "ms-swift, new": (
        [{"messages": [{"role": "system", "content": "Find help"}, CHAT], "positive_messages": [[said(A)]],
          "negative_messages": [[said(B)], [said(C)]]}],
        [(Q, (A, B, C), (1, 0, 0), (), "Find help")],
        "positive_messages",
    ),
    "yes and no": (
        [{"system": "x", "query": Q, "document": A, "label": "yes"},
         {"system": "x", "query": Q, "document": B, "label": "No "}],
        [(Q, (A, B), (1, 0))],
        "Not used: system",
    ),
    "是 and 否": (
        [{"问题": Q, "文档": A, "标签": "相关"}, {"问题": Q, "文档": B, "标签": "不相关"}],
        [(Q, (A, B), (1, 0))],
        "(问题, 文档, 标签)",
    ),
    "a number for a query": (
        [{"query": 2024, "document": A, "relevance": 1}, {"query": 2024.0, "document": B, "relevance": 0}],
        [("2024", (A, B), (1, 0))],
        "numbers in the place of texts",
    ),
    "right answers only": (
        [{"Question": Q, "Paragraph": A}, {"Question": Q2, "Paragraph": B}],
        [(Q, (A,), (1,)), (Q2, (B,), (1,))],
        "every row is a right answer",
    ),
    "labelled right answers only": ([{"query": Q, "document": A, "relevance": 1}], [(Q, (A,), (1,))], "add negatives"),
    "sentence-transformers pairs": ([{"anchor": Q, "positive": A}], [(Q, (A,), (1,))], "(anchor, positive)"),
    "sentence-transformers triplets": (
        [{"anchor": Q, "positive": A, "negative": B}, {"anchor": Q, "positive": A, "negative": C}],
        [(Q, (A, B, C), (1, 0, 0))],
        "Dropped: 1 pairs that stand twice",
    ),
    "sentence-transformers n-tuples": (
        [{"query": Q, "answer": A, "negative_1": B, "negative_2": C}],
        [(Q, (A, B, C), (1, 0, 0))],
        "negative_2",
    ),
    "sentence-transformers lists": (
        [{"query": Q, "docs": [A, B], "labels": [1, 0]}],
        [(Q, (A, B), (1, 0))],
        "lists (query, docs, labels)",
    ),
    "sentence pairs with a score": (
        [{"sentence1": Q, "sentence2": A, "score": 1}, {"sentence1": Q, "sentence2": B, "score": 0}],
        [(Q, (A, B), (1, 0))],
        "(sentence1, sentence2, score)",
    ),
    "MTEB reranking": (
        [{"query": Q, "positive": [A], "negative": [B, C, ""]}],
        [(Q, (A, B, C), (1, 0, 0))],
        "1 documents without text",
    ),
    "Tevatron": (
        [{"query_id": "1", "query": Q, "positive_passages": [{"docid": "1", "title": "Help", "text": A}],
          "negative_passages": [{"docid": "2", "title": "", "text": B}]}],
        [(Q, (f"Help {A}", B), (1, 0))],
        "positive_passages",
    ),
    "a teacher's scores as labels": (
        [{"query": Q, "document": A, "relevance": 0.87}, {"query": Q, "document": B, "relevance": 0.12}],
        [(Q, (A, B), (1, 0), (0.87, 0.12))],
        "0.5 and more counts as relevant",
    ),
    "a teacher's scores beside labels": (
        [{"query": Q, "document": A, "label": 1, "score": 3.5}, {"query": Q, "document": B, "label": 0, "score": -2}],
        [(Q, (A, B), (1, 0), (3.5, -2.0))],
        "Scores of a teacher",
    ),
    "grades": (
        [{"query": Q, "document": d, "relevance": r} for d, r in ((A, 3), (B, 1), (C, 0))],
        [(Q, (A, B, C), (3, 1, 0))],
        "grades 0 to 3",
    ),
    "minus one": (
        [{"query": Q, "document": A, "label": 1}, {"query": Q, "document": B, "label": -1}],
        [(Q, (A, B), (1, 0))],
        "-1 is read as not relevant",
    ),
    "an instruction and a topic a row": (
        [{"instruction": "Find help", "query": Q, "document": A, "relevance": 1, "topic": "body"},
         {"instruction": "Find money", "query": Q, "document": B, "relevance": 0, "topic": "body"}],
        [(Q, (A,), (1,), (), "Find help", "body"), (Q, (B,), (0,), (), "Find money", "body")],
        "2 instructions stand in the rows",
    ),
    "passages with is_selected": (
        [{"query": Q, "passages": [{"text": A, "is_selected": 1}, {"text": B, "is_selected": 0}]}],
        [(Q, (A, B), (1, 0))],
        "passages with labels",
    ),
    "MS MARCO": (
        [{"query": Q, "passages": {"passage_text": [A, B], "is_selected": [1, 0]}, "query_id": 1}],
        [(Q, (A, B), (1, 0))],
        "passages with labels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_read_as_meant(name, tmp_path):
    records, expected, words = SHAPES[name]
    found = read_data(records)
    groups = [
        Group(q, d, r, *(rest[2:3] or ("",)), *(rest[:1] or ((),)), *(rest[1:2] or ("",)))
        for q, d, r, *rest in expected
    ]
    assert found.groups == groups
    assert words in str(found) and str(found).startswith("the data: read as ")
    # The same from a file, and again from the plain form that it is converted to.
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    before = path.read_bytes()
    assert convert(path, out).groups == groups and path.read_bytes() == before
    assert read_data(out).groups == groups
    if not any(g.scores or g.instruction for g in groups):
        plain = data.read_groups(out, max_relevance=9)
        assert [(g.query, g.documents, g.relevance) for g in plain] == [
            (g.query, g.documents, g.relevance) for g in groups
        ]


ROWS = [{"query": "糖尿病症状", "document": "多饮、多尿和体重下降。", "relevance": 1},
        {"query": "糖尿病症状", "document": "高血压患者要少吃盐。", "relevance": 0},
        {"query": "高血压怎么吃", "document": "高血压患者要少吃盐。", "relevance": 1},
        {"query": "高血压怎么吃", "document": "租房押金应在退房时返还。", "relevance": 0}]  # fmt: skip
FRENCH = [("Qu'est-ce qu'une entorse légère ?", "Une entorse est une lésion des ligaments où la cheville enflée fait mal.", "1"),
          ("Qu'est-ce qu'une entorse légère ?", "Le prêt à taux fixe garde la même mensualité durant des années.", "0"),
          ("Où déposer ma déclaration ?", "La déclaration est déposée au guichet, à côté de l'entrée principale.", "1")]  # fmt: skip


def table(rows, mark=","):
    """Return CSV text of dicts."""
    lines = [mark.join(rows[0])] + [mark.join(str(v) for v in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("encoding", "mark", "words"),
    [
        ("utf-8", ",", "utf-8, separated by comma"),
        ("utf-8-sig", ";", "utf-8, separated by semicolon"),
        ("utf-16", "\t", "utf-16, separated by tab"),
        ("gbk", ",", "gb18030, separated by comma"),
        ("utf-8", "|", "separated by bar"),
    ],
)
def test_any_usual_encoding_and_separator_is_found_and_said(tmp_path, encoding, mark, words):
    path = tmp_path / "pairs.csv"
    path.write_bytes(table(ROWS, mark).encode(encoding))
    found = read_data(path)
    assert found.groups == data.to_groups((r["query"], r["document"], r["relevance"]) for r in ROWS)
    assert words in str(found)


def test_windows_1252_is_found(tmp_path):
    path = tmp_path / "paires.csv"
    path.write_bytes(
        table([dict(zip(("Question", "Passage", "Label"), r, strict=True)) for r in FRENCH], ";").encode("cp1252")
    )
    found = read_data(path)
    assert found.groups == data.to_groups((q, d, int(r)) for q, d, r in FRENCH)
    named = read_data(path, encoding="cp1252", separator=";")
    assert named.groups == found.groups
    with pytest.raises(InputError, match="is not in ascii"):
        read_data(path, encoding="ascii")


def workbook(path, **sheets):
    """Write an Excel file with one list of rows a sheet."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)


def test_an_excel_sheet_of_questions_and_paragraphs(tmp_path):
    path = tmp_path / "questions.xlsx"
    rows = [["Question", "Paragraph", "Owner"], [Q, A, "me"], [], [2024, B, None], [None, None, "you"]]
    workbook(path, Sheet1=rows, Empty=[])
    found = read_data(path)
    assert found.groups == [Group(Q, (A,), (1,)), Group("2024", (B,), (1,))]
    assert 'Excel, sheet "Sheet1"' in str(found) and "Not used: Owner" in str(found)
    assert "Dropped: 1 empty rows" in str(found) and "(Question, Paragraph)" in str(found)
    workbook(path, One=rows, Two=rows[:2])
    with pytest.raises(InputError, match="2 sheets with data: One, Two"):
        read_data(path)
    assert read_data(path, sheet="Two").groups == [Group(Q, (A,), (1,))]
    with pytest.raises(InputError, match='has no sheet "Three"; its sheets are: One, Two'):
        read_data(path, sheet="Three")
    path.write_bytes(b"PK no such thing")
    with pytest.raises(InputError, match="cannot be read as Excel"):
        read_data(path)


def clinic_sheet(path, merge=True):
    """Save a sheet as offices make it: a title over merged cells, a header in row 3, each question over its rows."""
    book = openpyxl.Workbook()
    book.active["A1"] = "Questions of the clinic"
    book.active.merge_cells("A1:C1")
    rows = [["No.", "Frage", "Absatz", "gut"], [1, Q, A, 1], [1, None, B, 0], [2, "Was nun?", C, 1], [2, None, A, 0]]
    for number, row in enumerate(rows, 3):
        for place, cell in enumerate(row, 1):
            book.active.cell(number, place, cell)
    if merge:
        book.active.merge_cells("B4:B5")
        book.active.merge_cells("B6:B7")
    book.save(path)
    return {"query": "Frage", "document": "Absatz", "relevance": "gut"}


def test_a_title_above_the_header_is_skipped_and_merged_cells_are_filled_down(tmp_path):
    columns = clinic_sheet(tmp_path / "q.xlsx")
    found = read_data(tmp_path / "q.xlsx", columns)
    assert found.groups == [Group(Q, [A, B], [1, 0]), Group("Was nun?", [C, A], [1, 0])]
    assert 'skipped above the header in row 3: "Questions of the clinic"' in str(found)
    assert "merged cells filled down: Frage" in str(found)
    clinic_sheet(tmp_path / "q.xlsx", merge=False)  # empty cells that nobody merged stay empty
    with pytest.raises(data.DataError, match="row 5: no text for the query"):
        read_data(tmp_path / "q.xlsx", columns)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("title", "header", "shown"),
    [
        (["Questions of the clinic"], ["Question", "Passage", "Relevant"], '"Questions of the clinic"'),
        (["Questions of the clinic", "", ""], ["Frage", "Absatz", "gut"], '"Questions of the clinic"'),
        (["Questions of the clinic", "May"], ["Question", "Passage", "Relevant"], '"Questions of the clinic", "May"'),
    ],
)
def test_a_title_above_the_header_of_a_csv_file_is_skipped_and_told(tmp_path, mark, title, header, shown):
    rows = [title, [], header, [Q, A, "1"], [Q, B, "0"]]
    (tmp_path / "q.csv").write_text("\n".join(map(mark.join, rows)), encoding="utf-8")
    columns = None if "Question" in header else dict(zip(("query", "document", "relevance"), header, strict=True))
    found = read_data(tmp_path / "q.csv", columns)
    assert found.groups == [Group(Q, [A, B], [1, 0])]
    assert f"skipped above the header in row 3: {shown}." in str(found)


@pytest.mark.parametrize(
    "texts",
    [
        ["Take two tablets.", "Call the doctor, at night.", "Stop, and rest."],
        ["Introduction", "Answer, in short", "What, else"],
        ["Our rules", "Text, pictures and sound are ours."],
    ],
)
def test_a_list_of_texts_of_which_some_hold_a_comma_is_no_table_with_a_title(tmp_path, texts):
    (tmp_path / "q.csv").write_text("\n".join(texts), encoding="utf-8")
    assert [p.text for p in data.read_passages(tmp_path / "q.csv")[0]] == texts
    with pytest.raises(InputError, match="no separator gives an even table"):
        read_data(tmp_path / "q.csv")


@pytest.mark.parametrize(
    ("text", "given"),
    [
        # Names of columns are no header in a row of data.
        ("Nr,Begriff,Satz\n1,query,text\n2,question,answer\n", "Satz"),
        # As pandas writes one column.
        (",Satz\n0,one\n1,two\n", "Satz"),
        # What is asked for stands below a title.
        ("Rules of May\nNr;Satz\n1;one\n2;two\n", "Satz"),
    ],
)
def test_the_header_is_where_the_columns_stand_that_are_asked_for(tmp_path, text, given):
    (tmp_path / "q.csv").write_text(text, encoding="utf-8")
    assert len(data.read_passages(tmp_path / "q.csv", columns={"document": given})[0]) == 2


def test_rows_that_hold_names_of_columns_stay_rows(tmp_path):
    rows = ["Anfrage,Absatz,gut", f"{Q},{A},1", f"{Q},{B},0", "query,text,1", "query,label here,0"]
    (tmp_path / "q.csv").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError, match="the columns are: Anfrage, Absatz, gut"):
        read_data(tmp_path / "q.csv")
    columns = {"query": "Anfrage", "document": "Absatz", "relevance": "gut"}
    assert [len(g.documents) for g in read_data(tmp_path / "q.csv", columns).groups] == [2, 2]


def test_a_command_uses_an_option_for_those_sources_that_it_fits(tmp_path, capsys):
    from types import SimpleNamespace

    from course_utils.cli import reading

    (tmp_path / "q.txt").write_text(f"Frage\tAbsatz\tgut\n{Q}\t{A}\t1\n{Q}\t{B}\t0", encoding="utf-8")
    place = tmp_path / "collection"
    (place / "qrels").mkdir(parents=True)
    (place / "corpus.jsonl").write_text(json.dumps({"_id": "a", "title": "", "text": A}), encoding="utf-8")
    (place / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": Q}), encoding="utf-8")
    (place / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1", encoding="utf-8")
    args = SimpleNamespace(columns="query=Frage,document=Absatz,relevance=gut", threshold=1, max_relevance=1)
    assert reading.read(args, tmp_path / "q.txt") == [Group(Q, (A, B), (1, 0))]
    assert "not used here" not in capsys.readouterr().err
    assert reading.read(args, place)[0].query == Q
    assert "--columns is for tables and lists, so it is not used here" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"columns=.*collection is none"):
        read_data(place, {"query": "Frage"})


UNFIT = [
    ("q.csv", {"sheet": "A"}, "is for Excel files, and"),
    ("q.csv", {"part": "train"}, "is for datasets of several parts"),
    ("q.jsonl", {"encoding": "cp1252"}, "is for CSV and text files"),
    ("q.jsonl", {"separator": ";"}, "is for CSV files"),
    ("q.xlsx", {"separator": ";"}, "is for CSV files"),
]


@pytest.mark.parametrize(("name", "how", "message"), UNFIT)
def test_an_option_for_another_kind_of_file_is_refused(tmp_path, name, how, message):
    clinic_sheet(tmp_path / "q.xlsx")
    (tmp_path / "q.csv").write_text(table([{"query": Q, "document": A, "relevance": 1}]), encoding="utf-8")
    (tmp_path / "q.jsonl").write_text(json.dumps({"query": Q, "document": A, "relevance": 1}), encoding="utf-8")
    [option] = how
    with pytest.raises(InputError, match=rf"^{option}=... \(--{option}\) {message}.*{name}"):
        read_data(tmp_path / name, **how)
    with pytest.raises(InputError, match=rf"{option}=... \(--{option}\)"):
        read_data([{"query": Q, "document": A, "relevance": 1}], **how)


def test_an_option_is_for_those_files_of_a_folder_that_it_fits(tmp_path):
    book = openpyxl.Workbook()
    for row in (["Code", "Absatz"], ["N-1", A], ["N-2", B]):
        book.active.append(row)
    book.save(tmp_path / "q.xlsx")
    (tmp_path / "more.txt").write_text(C, encoding="utf-8")
    texts = [p.text for p in data.read_passages(tmp_path, columns={"document": "Absatz"}, sheet="Sheet")[0]]
    assert C in texts and A in texts
    with pytest.raises(InputError, match=r"separator=... .* is for CSV files, and .* is none"):
        data.read_passages(tmp_path / "q.xlsx", columns={"document": "Absatz"}, separator=";")
    with pytest.raises(InputError, match=r"columns=... .* is for tables and lists, and .*more.txt is none"):
        data.read_passages(tmp_path / "more.txt", columns={"document": "Absatz"})


def test_what_stands_above_or_beside_a_table_is_named(tmp_path):
    book = openpyxl.Workbook()
    for row in (["Questions", "as of May"], ["Frage", "Absatz", "gut"], [Q, A, 1]):
        book.active.append(row)
    book.save(tmp_path / "q.xlsx")
    with pytest.raises(
        InputError, match=r"row 2: more cells than the header names \(Questions, as of May\); delete what"
    ):
        read_data(tmp_path / "q.xlsx")


def test_a_sheet_of_one_column_has_no_title(tmp_path):
    book = openpyxl.Workbook()
    for text in ("Text", A, B, C):
        book.active.append([text])
    book.active["B4"] = "a remark"
    book.save(tmp_path / "q.xlsx")
    with pytest.raises(InputError, match=r"row 4: more cells than the header names \(Text\)"):
        data.read_passages(tmp_path / "q.xlsx")
    book.active["B4"] = None
    book.save(tmp_path / "q.xlsx")
    assert [p.text for p in data.read_passages(tmp_path / "q.xlsx")[0]] == [A, B, C]


def test_a_likely_column_is_proposed_by_its_texts(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text(table([{"Nr": i, "Frage": Q, "Absatz": A + B, "gut": 1} for i in range(3)]), encoding="utf-8")
    with pytest.raises(InputError, match=r'q.csv: No column is the query .*--columns "query=Frage"'):
        read_data(path)
    with pytest.raises(InputError, match=r'q.csv: No column is the document .*--columns "document=Absatz"'):
        read_data(path, {"query": "Frage"})
    path.write_text(table([{"Nr": i, "Frage": Q, "Fundstelle": f"H-{i:09}"} for i in range(3)]), encoding="utf-8")
    with pytest.raises(InputError, match=r'--columns "query=Frage"'):  # a code is no text
        read_data(path)
    rows = [{"Nr": i, "Text": A + B, "Titel": Q} for i in range(3)]
    with pytest.raises(InputError, match=r'--columns "query=Titel"'):  # Text goes by the name of a document
        read_data(rows)


def test_columns_may_hold_commas():
    from argparse import Namespace

    from course_utils.cli import reading

    asked = Namespace(columns="query=Frage (kurz, wörtlich), document = Text, gekürzt,", separator=None)
    assert reading.given(asked) == {"columns": {"query": "Frage (kurz, wörtlich)", "document": "Text, gekürzt"}}
    with pytest.raises(InputError, match='--columns is "Frage, document=Text"; write it as'):
        reading.given(Namespace(columns="Frage, document=Text", separator=None))


def test_columns_are_named_by_hand():
    rows = [{"Frage": Q, "Absatz": A, "gut": "1"}, {"Frage": Q, "Absatz": B, "gut": "0"}]
    with pytest.raises(
        InputError,
        match=r'No column is the query for certain; the columns are: Frage, Absatz, gut. .*--columns "query=',
    ):
        read_data(rows)
    found = read_data(rows, {"query": "Frage", "document": "Absatz", "relevance": "gut"})
    assert found.groups == [Group(Q, (A, B), (1, 0))] and not found.ignored
    with pytest.raises(InputError, match='No column is named "Question"; the columns are: Frage'):
        read_data(rows, {"query": "Question"})
    with pytest.raises(InputError, match='"question" is no role of a column; the roles are: query, document'):
        read_data(rows, {"question": "Frage"})


UNCERTAIN = {
    "two questions": ([{"question": Q, "anchor": Q, "document": A}], "Several columns may be the query: question, anchor"),
    "two documents": ([{"query": Q, "text": A, "passage": B}], "Several columns may be the document: text, passage"),
    "two labels": ([{"query": Q, "document": A, "label": 1, "grade": 2}], "Several columns may be the relevance: label, grade"),
    "no document": ([{"query": Q, "remark": A}], "No column is the document for certain; the columns are: remark"),
    "stars": ([{"query": Q, "document": A, "rating": 5}, {"query": Q, "document": B, "rating": 1}], "none of them is 0"),
    "logits": ([{"query": Q, "document": A, "score": 7.5}, {"query": Q, "document": B, "score": -3}], "scores from -3 to 7.5"),
    "a word for a label": ([{"query": Q, "document": A, "label": "maybe"}], 'row 1: the label is "maybe": no number, yes or no'),
    "one word that is none": ([{"query": Q, "document": A, "label": "ja"}, {"query": Q, "document": B, "label": "vielleicht"}],
        'row 2: the label is "vielleicht": no number, yes or no'),
    "no label": ([{"query": Q, "document": A, "label": ""}, {"query": Q, "document": B, "label": 1}], "row 1: the label is missing"),
    "a percentage among numbers": ([{"query": Q, "document": A, "label": "90 %"}, {"query": Q, "document": B, "label": 0}], 'label is "90 %"'),
    "a comma among points": ([{"query": Q, "document": A, "label": "0,9"}, {"query": Q, "document": B, "label": "0.1"}], 'label is "0,9"'),
    "thousands": ([{"query": Q, "document": A, "label": "1,000"}, {"query": Q, "document": B, "label": "0"}], 'label is "1,000"'),
    "a score in words": ([{"query": Q, "document": A, "label": 1, "score": "high"}], "score is no number"),
    "no query": ([{"query": "", "document": A, "label": 1}], "row 1: no text for the query"),
    "no text": ([{"query": Q, "document": [A], "label": 1}], "no text for the document"),
    "twice": ([{"query": Q, "document": A, "label": 1}] * 2, "1 x duplicate pair: row 2|1 x duplicate pair. row 2"),
    "both": ([{"query": Q, "document": A, "label": 1}, {"query": Q, "document": A, "label": 0}], "1 x contradictory pair"),
    "labels that do not fit": ([{"query": Q, "docs": [A, B], "labels": [1]}], "2 documents and 1 labels"),
    "half a character": ([{"query": "\ud800", "document": A, "label": 1}], "half a character"),
    "nothing": ([], "holds no pairs"),
    "no records": ([[Q, A, 1]], "not a record"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_is_an_error_that_lists_the_choices(name):
    records, message = UNCERTAIN[name]
    with pytest.raises(InputError, match=message):
        read_data(records)


WRITTEN = {
    "percentages": ("90 %", "12,5％", 0.9, 0.125, "percentages are read as scores, 90 % as 0.9"),
    "decimal commas": ("0,9", "0", 0.9, 0.0, "the comma in labels is read as a decimal point"),
    "German": ("Ja", "nein", None, None, 'taken for relevant: "Ja"; taken for not relevant: "nein"'),
    "French": ("oui", "non", None, None, '"oui"'),
    "Spanish": ("Sí", "no", None, None, '"Sí"'),
    "Italian": ("sì", "non pertinente", None, None, '"non pertinente"'),
    "Chinese": ("匹配", "不匹配", None, None, '"不匹配"'),
    "Chinese, too": ("符合", "不符合", None, None, '"不符合"'),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_labels_are_read_as_people_of_other_languages_write_them(name, tmp_path):
    right, wrong, high, low, said = WRITTEN[name]
    path = tmp_path / "labels.csv"
    path.write_text(f"query;document;relevance\n{Q};{A};{right}\n{Q};{B};{wrong}\n", encoding="utf-8")
    found = read_data(path)
    assert found.groups == [Group(Q, (A, B), (1, 0), scores=() if high is None else (high, low))]
    assert said in str(found)
    lists = read_data([{"query": Q, "docs": [A, B], "labels": [right, wrong]}])
    assert lists.groups == found.groups and said in str(lists)
    if high is not None:  # a teacher's score beside labels is written no other way
        rows = [{"query": Q, "document": d, "label": n, "score": s} for d, n, s in ((A, 1, right), (B, 0, wrong))]
        assert read_data(rows).groups == found.groups


def test_words_for_labels_stand_in_a_plain_table_too(tmp_path):
    from course_utils.cli.reading import is_plain

    path = tmp_path / "labels.csv"
    path.write_text(f"query,document,relevance\n{Q},{A},ja\n{Q},{B},nein\n", encoding="utf-8")
    assert not is_plain(path)
    path.write_text(f"query,document,relevance\n{Q},{A},1\n{Q},{B},2\n", encoding="utf-8")
    assert is_plain(path)


def test_a_threshold_decides_what_is_relevant():
    stars = UNCERTAIN["stars"][0]
    assert read_data(stars, threshold=4).groups == [Group(Q, (A, B), (2, 0))]
    logits = read_data(UNCERTAIN["logits"][0], threshold=0)
    assert logits.groups == [Group(Q, (A, B), (1, 0), scores=(7.5, -3.0))]
    assert read_data(UNCERTAIN["twice"][0], drop_repeated=True).groups == [Group(Q, (A,), (1,))]


UNEVEN = {
    "odd.csv": (b"query,document\nq,d,1\n", "no separator gives an even table .* Delete what stands above the header"),
    "twin.csv": (b"query,query,document\na,b,c\n", 'the column "query" stands twice'),
    "two.csv": (b"q1,x;y1\nq2,x;y2\n", "comma, semicolon would each give"),
    "old.doc": (b"x", "unknown format .doc; use .csv, .tsv, .txt, .xlsx"),
    "list.json": (b'{"a": 1}', "one list of records"),
    "bad.jsonl": (b'{"a": 1}\n{', "line 2"),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_a_table_that_is_not_even_is_refused(tmp_path, name):
    content, message = UNEVEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_data(tmp_path / name)
    with pytest.raises(InputError, match="There is no file or folder"):
        read_data(tmp_path / "none.csv")


def test_parquet_and_saved_datasets(tmp_path):
    rows = [{"question": Q, "answer": A, "negative_1": B}]
    expected = [Group(Q, (A, B), (1, 0))]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read_data(tmp_path / "rows.parquet").groups == expected
    one = datasets.Dataset.from_list(rows)
    one.save_to_disk(tmp_path / "one")
    assert read_data(tmp_path / "one").groups == expected == read_data(one).groups
    datasets.DatasetDict(train=one, test=one).save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match="has several parts: train, test"):
        read_data(tmp_path / "two")
    assert read_data(tmp_path / "two", part="test").groups == expected
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist([{**rows[0], "question": f"{Q} {name}"}]), hub / f"{name}.parquet"
        )
    assert len(read_data(tmp_path / "hub", part="train").groups) == 2


def collection(folder, judgements, name="qrels/test.tsv", head="query-id\tcorpus-id\tscore\n"):
    """Write a small collection in the layout of BEIR."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    docs = [{"_id": "d1", "title": "Help", "text": A}, {"_id": "d2", "title": "", "text": B}, {"_id": "d3", "text": C}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in docs))
    (folder / "queries.jsonl").write_text(
        json.dumps({"_id": "q1", "text": Q}) + "\n" + json.dumps({"_id": "q2", "text": Q2})
    )
    (folder / name).write_text(head + judgements)


def test_a_folder_in_the_layout_of_beir(tmp_path):
    collection(tmp_path, "q1\td1\t2\nq1\td2\t0\nq2\td9\t1\nq9\td1\t1\nq2\td2\t1\n")
    found = read_data(tmp_path)
    assert found.groups == [Group(Q, (f"Help {A}", B), (2, 0)), Group(Q2, (B,), (1,))]
    assert "corpus of 3 documents" in str(found) and "1 judgements of a document that is not in the corpus" in str(
        found
    )
    collection(tmp_path, "q1\td3\t1\n", "qrels/train.tsv")
    with pytest.raises(InputError, match="has several parts: test, train"):
        read_data(tmp_path)
    assert read_data(tmp_path, part="train").groups == [Group(Q, (C,), (1,))]


def test_a_folder_in_the_layout_of_trec_with_a_run(tmp_path):
    (tmp_path / "collection.tsv").write_text(f"d1\t{A}\nd2\t{B}\nd3\t{C}\n")
    (tmp_path / "topics.tsv").write_text(f"1\t{Q}\n2\t{Q2}\n")
    (tmp_path / "qrels.txt").write_text("1 0 d1 1\n2 0 d2 1\n")
    assert read_data(tmp_path).groups == [Group(Q, (A,), (1,)), Group(Q2, (B,), (1,))]
    (tmp_path / "bm25.run").write_text("1 Q0 d1 1 9.1 bm25\n1 Q0 d3 2 8.0 bm25\n")
    found = read_data(tmp_path)
    assert found.groups[0] == Group(Q, (A, C), (1, 0)) and "nobody judged count as wrong" in str(found)
    (tmp_path / "qrels.txt").write_text("1 0 d1 yes\n2 0 d2 no\n")
    with pytest.raises(InputError, match='line 2: the judgement "no" is no whole number'):
        read_data(tmp_path)


def test_judgements_that_are_no_grades_or_contradict_are_refused(tmp_path):
    (tmp_path / "corpus.tsv").write_text("d1\tmasks on ward three\nd2\tforms go to the office\n")
    (tmp_path / "queries.tsv").write_text("q1\twhere are masks\n")
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("q1 0 d1 1.0\nq1 0 d2 0\nq1 0 d1 1\n")
    assert read_data(tmp_path).groups[0].relevance == (1, 0)
    qrels.write_text("q1 0 d1 1\nq1 0 d2 0.6\n")
    with pytest.raises(InputError, match=r'line 2: the judgement "0\.6" is no whole number'):
        read_data(tmp_path)
    qrels.write_text("q1 0 d1 1\nq1 0 d2 0\nq1 0 d1 0\n")
    with pytest.raises(InputError, match='document "d1" are judged 1 and 0; keep one'):
        read_data(tmp_path)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_reader_is_as_strict_in_every_language(tmp_path, monkeypatch, language):
    monkeypatch.setenv("COURSE_LANGUAGE", language)
    path = tmp_path / "pairs.csv"
    for rows in ("q1;d1;1\nq1;d1;0\nq1;d2;0\n", "q1;d1;1\nq1;d2;0\nTotal;;\n"):
        path.write_text("question;passage;label\n" + rows)
        with pytest.raises(data.DataError):
            read_data(path)


def test_a_column_of_clicks_is_asked_for(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("query,document,clicked\nq1,d1,1\nq1,d2,0\nq2,d4,0\nq2,d5,1\n")
    with pytest.raises(InputError, match=r'"clicked" holds only 0, 1\. If'):
        read_data(path)
    assert [g.relevance for g in read_data(path, {"relevance": "clicked"}).groups] == [(1, 0), (0, 1)]
    path.write_text("question,answer,label,verified\nq1,a1,1,0\nq2,a2,1,1\n")
    assert [g.relevance for g in read_data(path).groups] == [(1,), (1,)], "a label column was taken"
    marked = [{"query": "q1", "document": "d1", "clicked": True}, {"query": "q1", "document": "d2", "clicked": False}]
    with pytest.raises(InputError, match=r'"clicked" holds only False, True\. If'):
        read_data(marked)
    path.write_text("Pregunta;Texto;Relevancia\nq1;d1;sí\nq1;d2;no\n")
    with pytest.raises(InputError, match=r'"Relevancia" holds only no, sí\. If'):
        read_data(path, {"query": "Pregunta", "document": "Texto"})
    path.write_text("query,document,stars\nq1,d1,3\nq1,d2,0\nq2,d4,1\n")
    with pytest.raises(InputError, match=r'"stars" holds only 0, 1, 3\. If'):
        read_data(path)
    path.write_text("query,document,ward\nq1,d1,3\nq2,d2,9\nq3,d4,0\n")
    assert len(read_data(path).groups) == 3, "numbers of wards are no labels"


@pytest.mark.parametrize("write", [json.dumps, str, lambda texts: str(texts).replace(", '", "\n '")])
def test_a_list_that_was_written_into_a_cell_is_a_list(tmp_path, write):
    path = tmp_path / "lists.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["question", "positives", "negatives"], ["q", write(["a b"]), write(["c, d", "e"])]]
        )
    assert read_data(path).groups == [Group("q", ("a b", "c, d", "e"), (1, 0, 0))]
    path.write_text('question,positives,negatives\nq,a,[]\nq2,"[{[]:1}]",b\n')
    assert [g.documents for g in read_data(path).groups] == [("a",), ("[{[]:1}]", "b")]


def test_infinity_is_a_wrong_label(tmp_path, capsys):
    from course_utils.cli.parser import main

    path = tmp_path / "inf.jsonl"
    path.write_text(
        '{"query": "a", "document": "b", "relevance": Infinity}\n{"query": "a", "document": "c", "relevance": 0}\n'
    )
    assert main(["data", "check", str(path)]) == 2
    assert 'field "relevance" is inf' in capsys.readouterr().out


def test_plain_files_give_what_they_gave(tmp_path):
    path = tmp_path / "plain.jsonl"
    rows = [*ROWS, {"query": " 糖尿病症状", "document": "第三篇", "relevance": 0, "text": "more", "answer": "x"}]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert read_data(path).groups == data.read_groups(path)
    path = tmp_path / "plain.csv"
    path.write_bytes(table(ROWS).encode("utf-8-sig"))
    assert read_data(path).groups == data.read_groups(path)


def test_convert_never_writes_over_its_input(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"query": Q, "pos": [A], "neg": [B]}))
    with pytest.raises(InputError):
        convert(path, path)
    assert json.loads(path.read_text())["pos"] == [A]
    with pytest.raises(InputError, match=r"name the file .jsonl"):
        convert(path, tmp_path / "out.csv")


def test_a_graded_file_goes_through_the_commands(tmp_path, capsys):
    from course_utils.cli import main

    rows = [{"query": f"{Q} {i}", "document": d, "label": r} for i in range(6) for d, r in ((A, 2), (B, 1), (C, 0))]
    path, out, result = tmp_path / "graded.csv", tmp_path / "graded.jsonl", tmp_path / "result.json"
    path.write_text(table(rows, ";"))
    assert main(["data", "convert", str(path), str(out)]) == 0 and "grades 0 to 2" in capsys.readouterr().out
    arguments = ["evaluate", "--model", "nano", "--data", str(out), "--json", str(result)]
    assert main(arguments) == 2 and "is 2, not 0 or 1" in capsys.readouterr().err
    assert main([*arguments, "--max-relevance", "2"]) == 0 and json.loads(result.read_text())["queries"] == 6
