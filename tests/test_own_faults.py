"""Files of a hospital that were read wrongly in silence or refused with a false reason: pages, numbers, lists, encodings."""

import csv
import json
from types import SimpleNamespace

import openpyxl
import pytest

from course_utils.cli import main, reading
from course_utils.cli.rank import read_documents
from course_utils.data import Group, prepare, read_data, read_passages
from course_utils.data.decode import _decode, _utf16
from course_utils.data.match import _Index, _match
from course_utils.data.passages import _Passage
from course_utils.data.read import DataError
from course_utils.errors import InputError

WORDS = [
    f"{a}{b}" for a in ("gown", "mask", "form", "bill", "lamp") for b in ("one", "two", "six", "ten", "all", "top")
]


def write(path, *rows, mark=","):
    """Write a table and return its path."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=mark).writerows(rows)
    return path


def page(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_and_blocks_of_a_page_stand_apart(tmp_path):
    rows = "<tr><th>Drug</th><th>Dose</th></tr><tr><td>Ibuprofen</td><td>400<b>mg</b></td></tr>"
    text = f"<header>Ward</header><table><caption>Doses</caption>{rows}</table><form><label>Name</label><button>Go</button></form>"
    found = read_passages(page(tmp_path / "a.html", text))[0][0].text
    assert found == "Ward\n\nDoses\n\nDrug Dose\n\nIbuprofen 400mg\n\nName\n\nGo"
    tags = ("option", "main", "aside", "footer", "summary", "figcaption")
    page(tmp_path / "a.html", "".join(f"<{t}>{t}</{t}>" for t in tags))
    assert read_passages(tmp_path / "a.html")[0][0].text.split() == list(tags)


@pytest.mark.parametrize(
    "text",
    [
        "<body><nav><ul><li>Home</ul><p>A badge.</p></body>",
        "<head><style>p {}</head><body><p>A badge.</p></body>",
        "<head><STYLE>p {}</style><script>no()</HEAD><body><p>A badge.</p></body>",
        "<body><nav>Menu<template>x</nav><p>A badge.</p></body>",
    ],
)
def test_what_nothing_ends_hides_no_page(tmp_path, text):
    found = read_passages(page(tmp_path / "a.html", f"<html>{text}</html>"))[0][0].text
    assert found.split()[-2:] == ["A", "badge."] and not {"no()", "p", "{}", "Menu"} & set(found.split())


def test_hidden_parts_stay_hidden_and_empty_pages_are_named(tmp_path):
    page(tmp_path / "a.html", "<nav><nav>x</nav>Menu</nav>One <script>no('</nav>')</script>word.<noscript>y</noscript>")
    page(tmp_path / "b.html", "<body><style>p {}<p>A badge.</p></body>")
    passages, said = read_passages(tmp_path)
    assert [p.text for p in passages] == ["One word."]
    assert said[-2:] == ["1 files without text not read", "without text: b.html"]


LEAVE = [(str(i), f"Leave of kind h{i} is asked for at desk number {i} before noon") for i in range(1, 41)]
REPAIR = [(str(i), f"Computer of kind c{i} is mended in the cellar by team {i} after a call") for i in range(1, 41)]


def test_rows_of_other_tables_with_one_number_stay_apart(tmp_path):
    write(tmp_path / "book" / "hr.csv", ("No.", "Text"), *LEAVE)
    write(tmp_path / "book" / "it.csv", ("No.", "Text"), *REPAIR)
    asked = [Group(f"how do I get leave h{i}", (i,), (1,)) for i, _text in LEAVE]
    with pytest.raises(
        InputError, match=r'look like ids of passages, for example "1", but .* called hr.csv 1, hr.csv 2'
    ):
        prepare(asked, tmp_path / "book")
    passages, said = read_passages(tmp_path / "book", columns={"id": "No."})
    assert len(passages) == 80 and {p.id: p.text for p in passages}["it.csv 7"] == REPAIR[6][1]
    assert (
        '40 ids mean different texts in different files, so the name of the file was put before them: "hr.csv 1"'
        in said
    )
    assert [p.id for p in read_passages(tmp_path / "book")[0]] == [p.id for p in passages]
    done = prepare([Group(g.query, (f"hr.csv {g.positives[0]}",), (1,)) for g in asked], tmp_path / "book")
    assert {d for part in done.parts.values() for g in part for d in g.positives} == {text for _i, text in LEAVE}


def test_a_table_that_stands_twice_in_a_folder_is_one(tmp_path):
    for name in ("a.csv", "b.csv"):
        write(tmp_path / "book" / name, ("No.", "Text"), *LEAVE)
    passages, said = read_passages(tmp_path / "book", columns={"id": "No."})
    assert [(p.id, p.text) for p in passages] == LEAVE and "40 rows joined to an earlier one with their id" in said


def test_numbers_of_rows_are_no_names_of_files(tmp_path):
    rules = [
        (f"{i}{end}", f"Rule {i}{end} of thing{i} {end and 'at night'} in ward {i * 7}")
        for i in range(1, 21)
        for end in ("", ".1", "/4")
    ]
    write(tmp_path / "rules.csv", ("No.", "Text"), *rules)
    pieces, _said = read_passages(tmp_path / "rules.csv", columns={"id": "No."})
    index = _Index(pieces)
    assert all(index.find(i) == ("named", [p]) for (i, _text), p in zip(rules, pieces, strict=True))
    asked = [Group(f"what holds for thing{i} and {n}", (i,), (1,)) for n, (i, _text) in enumerate(rules)]
    groups, *_rest = _match(asked, pieces, "rules.csv")
    assert [g.positives for g in groups] == [[text] for _i, text in rules]
    index = _Index([p for p in pieces if p.id.endswith((".1", "/4"))])
    assert index.find("7")[0] == index.find("4")[0] == "unknown"
    page(tmp_path / "book.md", "A lost badge is reported.")
    assert _Index(read_passages(tmp_path / "book.md")[0]).find("book")[0] == "named"


@pytest.mark.parametrize("name", ["instruction", "task", "prompt", "subject"])
def test_a_column_means_one_thing(tmp_path, name):
    path = write(
        tmp_path / "q.csv", (name, "output"), ("where is garage 1", "Behind house 1."), ("where is garage 2", "B.")
    )
    found = read_data(path, {"query": name, "document": "output"})
    assert [(g.query, g.instruction, g.topic) for g in found.groups] == [
        ("where is garage 1", "", ""),
        ("where is garage 2", "", ""),
    ]
    both = [{"task": "where", "instruction": "Find help", "output": "B."}]
    assert read_data(both, {"query": "task", "document": "output"}).groups[0].instruction == "Find help"


NULLS = ["NULL", "\\N", "#N/A", "NaN"]


@pytest.mark.parametrize("word", NULLS)
def test_what_databases_write_for_nothing_is_no_text(tmp_path, word):
    rows = [("where is it", "Behind house 1."), ("who has it", word), (word, "The desk."), ("is it so", f"No: {word}")]
    found = read_data(write(tmp_path / "q.csv", ("question", "answer"), *rows))
    assert [(g.query, *g.documents) for g in found.groups] == [rows[0], rows[3]]
    assert "Dropped: 2 rows with NULL or the like in place of a text." in str(found)
    sides = read_data(
        write(tmp_path / "s.tsv", ("query", "positive", "negative"), *((*r, "No.") for r in rows), mark="\t")
    )
    assert [g.documents for g in sides.groups] == [(rows[0][1], "No."), ("No.",), (rows[3][1], "No.")]
    book = write(
        tmp_path / "h.csv",
        ("id", "title", "text"),
        *((f"G{i}", "", r[1]) for i, r in enumerate(rows)),
        ("G4", word, "D."),
    )
    passages, said = read_passages(book)
    assert [p.text for p in passages] == [rows[0][1], "The desk.", rows[3][1], "D."]
    assert "rows without a text left out: 1; NULL and the like are no text" in said[1]


@pytest.mark.parametrize("word", NULLS)
def test_words_for_nothing_stay_where_people_type_them(tmp_path, word):
    chat = [{"query": "which drug", "response": word, "rejected_response": ["Ibuprofen"]}]
    assert read_data(chat).groups == [Group("which drug", (word, "Ibuprofen"), (1, 0))]
    rows = [("query", "document", "topic"), ("which drug", word, word)]
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.active.cell(2, 2).data_type = "s"
    book.save(tmp_path / "q.xlsx")
    if word in ("NULL", "\\N"):
        with pytest.raises(InputError, match="holds no pairs"):
            read_data(tmp_path / "q.xlsx")
    else:
        assert read_data(tmp_path / "q.xlsx").groups[0].documents == (word,)
    found = read_data(write(tmp_path / "q.csv", rows[0], ("which drug", "D.", word)))
    assert found.groups[0].topic == word
    book = write(tmp_path / "h.csv", ("id", "text"), (word, "D."))
    assert read_passages(book)[0][0].id == word


def collection(folder, corpus, queries="q1\twhere\n", head="id\ttext"):
    folder.mkdir(exist_ok=True)
    page(folder / "corpus.tsv", f"{head}\n{corpus}")
    page(folder / "queries.tsv", queries)
    page(folder / "qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n")
    return folder


def test_ids_of_a_collection_mean_one_text(tmp_path):
    twice = "d1\tGarage.\nd2\tKitchen.\nd1\tGarage.\n"
    found = read_data(collection(tmp_path / "c", twice))
    assert found.groups == [Group("where", ("Garage.", "Kitchen."), (1, 0))]
    assert "Dropped: 1 texts that stand twice with their id." in str(found)
    with pytest.raises(
        DataError, match=r'1 x id of two texts. corpus.tsv, line 4: the id "d1" .* in corpus.tsv, line 2'
    ):
        read_data(collection(tmp_path / "c", twice.replace("Garage.\nd2", "Withdrawn.\nd2")))
    with pytest.raises(DataError, match=r'queries.tsv, line 2: the id "q1"'):
        read_data(collection(tmp_path / "c", twice, "q1\twhere\nq1\twho\n"))
    folder = collection(tmp_path / "c", twice)
    page(folder / "queries.rewritten.tsv", "q1\twho\n")
    with pytest.raises(
        InputError,
        match=r"queries\.\w*\.?tsv and queries\.\w*\.?tsv give different texts for the same ids, for example q1; keep one",
    ):
        read_data(folder)


@pytest.mark.parametrize("head", ["passage_id\ttext", "pid\tpassage", "docno\ttext"])
def test_the_header_of_a_corpus_is_no_document(tmp_path, head):
    assert "corpus of 2 documents" in str(
        read_data(collection(tmp_path / "c", "d1\tGarage.\nd2\tKitchen.\n", head=head))
    )


# What a hospital says of a lost card, of leave and of washing hands.
SAID = {
    "cp1253": "Η χαμένη κάρτα δηλώνεται στη φύλαξη στο εσωτερικό 4100.\nΗ άδεια ζητείται δύο εβδομάδες πριν.\n",
    "cp1255": "תג שאבד מדווח לביטחון בשלוחה 4100.\nבקשת חופשה מוגשת שבועיים מראש.\n",
    "cp1254": "Kaybolan kart güvenliğe 4100 numaradan bildirilir.\nİzin iki hafta önce istenir, yazılı olarak.\n",
    "cp1256": "يتم الإبلاغ عن البطاقة المفقودة على الرقم 4100.\nتطلب الإجازة قبل أسبوعين.\n",
    "cp1257": "Apie pamestą kortelę pranešama apsaugai telefonu 4100.\nAtostogų prašoma prieš dvi savaites, žodžiu ar raštu.\n",
    "cp1258": "The\u0309 bi\u0323 mâ\u0301t pha\u0309i báo cho bảo vê\u0323.\nNhân viên rư\u0309a tay trươ\u0301c mô\u0303i bê\u0323nh nhân.\n".replace("ả", "a\u0309"),
    "cp1251": "О потерянном пропуске сообщают охране по номеру 4100.\nОтпуск просят за две недели.\n",
    "cp1252": "Un badge smarrito si segnala alla sicurezza, così si può bloccare più in fretta.\nLe ferie si chiedono due settimane prima, perché lunedì è tardi.\n",
}  # fmt: skip


@pytest.mark.parametrize("encoding", SAID)
def test_the_alphabets_of_windows_are_told_apart(encoding):
    text = SAID[encoding]
    assert _decode(text.encode(encoding), "q.csv") == (text, encoding)
    table = "query,document\n" + "".join(f'"{line}","{line}"\n' for line in text.splitlines())
    assert _decode(table.encode(encoding), "q.csv") == (table, encoding)


def test_where_encodings_differ_is_shown():
    with pytest.raises(InputError, match=r'cp1250: "t signalé ŕ la sécurité.*cp1252: "t signalé à la sécurité'):
        _decode("Un badge est signalé à la sécurité.\n".encode("cp1252"), "q.csv")
    with pytest.raises(InputError, match=r'cp1252: .*cp1257: "'):
        _decode("Slaptažodis čia.\n".encode("cp1257"), "q.csv")


def test_clicks_are_no_grades():
    rows = [{"query": "garage", "document": d, "clicks": n} for d, n in (("A.", 260), ("B.", 0), ("C.", 12))]
    columns = {"relevance": "clicks"}
    with pytest.raises(InputError, match=r"The labels go up to 260, and grades end at 255; from which number on"):
        read_data(rows, columns)
    assert read_data(rows, columns, threshold=10).groups == [Group("garage", ("A.", "B.", "C."), (1, 0, 1))]
    stars = [{**row, "clicks": n} for row, n in zip(rows, (10, 1, 8), strict=True)]
    assert read_data(stars, columns, threshold=8).groups[0].relevance == (3, 0, 1)
    rows[1]["clicks"] = -2
    rows[0]["clicks"], rows[2]["clicks"] = 3, 0
    with pytest.raises(InputError, match="from -2 to 3"):
        read_data(rows, columns)


def test_settings_in_a_folder_are_no_handbook(tmp_path):
    page(tmp_path / "_category_.json", '{"label": "Rules", "position": 2}')
    page(tmp_path / "list.json", '["a", "b"]')
    page(tmp_path / "badge.md", "A lost badge is reported.")
    passages, said = read_passages(tmp_path)
    assert [p.id for p in passages] == ["badge.md"] and "2 JSON files that are no list of records not read" in said
    with pytest.raises(InputError, match="one list of records"):
        read_passages(tmp_path / "_category_.json")
    page(tmp_path / "torn.json", '[{"text": "A"}')
    with pytest.raises(InputError, match=r"torn\.json"):
        read_passages(tmp_path)


@pytest.mark.parametrize("name", ["text", "content", "body", "message", "description"])
def test_records_of_a_search_engine_keep_their_titles(tmp_path, name):
    rows = [
        {"_index": "kb", "_id": f"a{i}", "_source": {"title": f"Garage {i}", name: f"It is behind {i}."}}
        for i in (1, 2)
    ]
    path = page(tmp_path / "es.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    passages, _said = read_passages(path, columns={"document": "_source"})
    assert [(p.id, p.text) for p in passages] == [
        ("a1", "Garage 1 It is behind 1."),
        ("a2", "Garage 2 It is behind 2."),
    ]


def test_records_without_a_text_are_said_with_their_fields(tmp_path):
    path = page(tmp_path / "es.jsonl", '{"_id": "1", "_source": {"title": "Garage", "rubric": "It is behind."}}\n')
    with pytest.raises(InputError, match=r'no record in "_source" has a text; its fields are: title, rubric'):
        read_passages(path, columns={"document": "_source"})


def test_a_result_inside_the_folder_of_the_lists_is_refused_at_once(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "prepare", "q.csv", "book", "--out", str(out), "--json", str(out / "r.json")]) == 2
    assert "lies in a folder that this run writes anew" in capsys.readouterr().err and not out.exists()


def test_columns_are_not_asked_of_other_files_in_the_plain_form(tmp_path, capsys):
    rows = [("who is it", "The clerk.", 1), ("who is it", "The cook.", 0)]
    write(tmp_path / "own.csv", ("Frage", "Absatz", "relevance"), *rows)
    write(tmp_path / "plain.csv", ("query", "document", "relevance"), *rows)
    args = SimpleNamespace(
        columns="query=Frage,document=Absatz,relevance=relevance",
        threshold=1,
        max_relevance=1,
        train=str(tmp_path / "own.csv"),
    )
    for name in ("own.csv", "plain.csv"):
        assert reading.read(args, str(tmp_path / name)) == [Group("who is it", ("The clerk.", "The cook."), (1, 0))]
    assert "so it is read as it is, without --columns, --threshold." in capsys.readouterr().err
    args.train = str(tmp_path / "plain.csv")
    with pytest.raises(InputError, match='No column is named "Frage"'):
        reading.read(args, args.train)


def test_documents_of_word_or_of_another_encoding_are_named(tmp_path):
    (tmp_path / "a.docx").write_bytes(b"PK\3\4" + bytes(range(32, 120)))
    with pytest.raises(InputError, match=r"a\.docx: unknown format \.docx; use \.txt, \.md"):
        read_documents(str(tmp_path / "a.docx"))
    (tmp_path / "a.txt").write_bytes("发热要看医生\n".encode("gb18030"))
    with pytest.raises(InputError, match="is not UTF-8; save the file as UTF-8, or name its encoding: --encoding"):
        read_documents(str(tmp_path / "a.txt"))


def test_the_advice_names_a_column_that_can_be_it(tmp_path):
    lists = [{"query": f"where do I find place {i}", "answers": [f"a{i}"]} for i in range(20)]
    with pytest.raises(InputError, match=r'columns={"positive": "answers"} \(--columns "positive=answers"\)'):
        read_data(lists)
    assert read_data(lists, {"positive": "answers"}).groups[3].documents == ("a3",)
    found = [
        {"_index": "kb of the house", "_id": f"a{i}", "_score": 1.0, "_source": {"body": f"Behind {i}."}}
        for i in (1, 2)
    ]
    path = page(tmp_path / "es.jsonl", "".join(json.dumps(row) + "\n" for row in found))
    with pytest.raises(InputError, match=r'--columns "document=_source"'):
        read_passages(path)
    with pytest.raises(InputError, match=r'--columns "document=answers"|document=\.\.\.'):
        read_passages(page(tmp_path / "l.jsonl", json.dumps(lists[0]) + "\n"))


@pytest.mark.parametrize(
    "rows",
    [
        [(f"G{i}", f"Garage {i} is behind house {i}") for i in range(1, 9)],
        [(str(i), f"Garage {i} is behind house number {i}") for i in range(1, 9)],
        [(f"第{i}条", f"员工卡遗失须立即向保卫科报告并停用旧卡，编号{i}") for i in range(1, 9)],
    ],
)
def test_a_table_without_a_header_is_said_to_have_none(tmp_path, rows):
    path = write(tmp_path / "h.tsv", *rows, mark="\t")
    with pytest.raises(
        InputError, match=rf"The first row, {rows[0][0]}, .* does not look like a header: put a line with column names"
    ):
        read_passages(path)
    with pytest.raises(InputError, match=r"does not look like a header.*--columns query=COLUMN"):
        read_data(path)
    write(path, ("Nummer", "员工常问的问题描述"), *rows, mark="\t")
    with pytest.raises(InputError, match=r'--columns "document=员工常问的问题描述"'):
        read_passages(path)


def sheet(path, *rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("name", ["q.csv", "q.xlsx"])
def test_a_header_that_stands_twice_is_no_row(tmp_path, name):
    rows = [
        ("question", "answer"),
        ("where is it", "Behind house 1."),
        ("question", "answer"),
        ("who is it", "The clerk."),
    ]
    path = (write if name == "q.csv" else sheet)(tmp_path / name, *rows)
    found = read_data(path)
    assert [(g.query, *g.documents) for g in found.groups] == [rows[1], rows[3]]
    assert "rows that repeat the header left out: 1" in str(found)


def test_tags_are_taken_out_of_cells_with_blocks(tmp_path):
    rows = [
        ("1", "<p>Wash <b>hands</b>.</p><ul><li>Rinse</li></ul>"),
        ("2", "Write <br> for a line, a < b."),
        ("3", "Dry."),
    ]
    passages, said = read_passages(write(tmp_path / "h.csv", ("id", "text"), *rows))
    assert [p.text for p in passages] == ["Wash hands.\n\nRinse", rows[1][1], "Dry."]
    assert "HTML tags taken out of 1 cells" in said[1]


def test_lists_of_html_and_texts_about_html_stay_as_they_are(tmp_path):
    lists = ('["<p>Daily change</p>", "<p>Each day</p>"]', '["<p>Never at all</p>"]')
    found = read_data(write(tmp_path / "l.csv", ("query", "positive", "negative"), ("how often", *lists)))
    assert [len(g.documents) for g in found.groups] == [3]
    rows = [("1", "Write `<ul><li>one</li></ul>` in the body."), ("2", "Type <p>text</p>")]
    assert [p.text for p in read_passages(write(tmp_path / "h.csv", ("id", "text"), *rows))[0]] == [r[1] for r in rows]


def test_a_stray_zero_in_another_encoding_makes_no_utf16():
    for encoding, text in (
        ("gb18030", "问题,答案\n为什么洗手,因为手上有看不见的细菌\n" * 9),
        ("cp1251", "вопрос;ответ\nгде;здесь и сейчас\n" * 9),
    ):
        raw = text.replace("\n", "\n\0", 1).encode(encoding)
        raw += b"x" * (len(raw) % 2)
        assert len(raw) % 2 == 0 and _utf16(raw) is None


def test_names_of_word_files_and_numbers_with_zeros_are_found(tmp_path):
    texts = [f"{word} is kept in room {i * 7} of house {word[::-1]}" for i, word in enumerate(WORDS)]
    for name, asked in (("hr/policy{}.docx", "policy{}.docx"), ("hr/policy{}.docx", "policy{}"), ("{:03}", "{}")):
        handbook = write(tmp_path / "h.csv", ("id", "text"), *((name.format(i), t) for i, t in enumerate(texts)))
        rows = [(f"where is {w} kept", asked.format(i)) for i, w in enumerate(WORDS)]
        done = prepare(write(tmp_path / "q.csv", ("question", "answer"), *rows), handbook)
        assert f"Of {len(WORDS)} right documents {len(WORDS)} by the name of a passage" in str(done)


def test_an_other_column_of_small_numbers_is_no_question_and_none_is_an_answer(tmp_path):
    rows = [(f"q{i}", f"a{i}", i % 3) for i in range(6)]
    assert len(read_data(write(tmp_path / "a.csv", ("question", "passage", "annotator"), *rows)).groups) == 6
    rows = [("which side effects", "None", 1), ("which side effects", "Headache", 0)]
    assert read_data(write(tmp_path / "n.csv", ("question", "passage", "label"), *rows)).groups[0].relevance == (1, 0)


def test_a_formula_without_its_value_is_named(tmp_path):
    path = sheet(tmp_path / "q.xlsx", ("Question", "Answer", "Length"), ("where is it", "Behind house 1.", "=LEN(A2)"))
    assert len(read_data(path).groups) == len(read_passages(path, columns={"document": "Answer"})[0]) == 1
    path = sheet(tmp_path / "f.xlsx", ("Question", "Answer"), ("where is it", '="Behind "&A2'), (None, "=A3"))
    for reader in (read_data, lambda p: read_passages(p, columns={"document": "Answer"})):
        with pytest.raises(
            InputError, match=r"f\.xlsx: the cell B2 holds a formula without a value; open the file in Excel"
        ):
            reader(path)


def test_a_dotted_id_lends_its_stem_to_nobody_who_is_called_so():
    index = _Index(
        [_Passage(n, f"text of {n}", n) for n in ("HR", "HR.leave", "HR.sick", "a/policy.docx", "007", "07", "09")]
    )
    for name, found in (
        ("HR", "HR"),
        ("hr.sick", "HR.sick"),
        ("policy", "a/policy.docx"),
        ("policy.docx", "a/policy.docx"),
        ("9", "09"),
    ):
        assert [p.id for p in index.find(name)[1]] == [found] and index.find(name)[0] == "named"
    assert index.find("7")[0] != "named", "two are called so"


def test_the_column_that_holds_the_ids_as_they_are_wins(tmp_path):
    rows = [(str(i), f"{i:02}", f"the text of {w}") for i, w in enumerate(WORDS[:9], 1)]
    path = write(tmp_path / "h.csv", ("code", "chapter", "text"), *rows)
    assert [p.id for p in read_passages(path, named=[r[0] for r in rows])[0]] == [r[0] for r in rows]


def test_greek_after_much_english_is_greek():
    greek = SAID["cp1253"].encode("cp1253")
    assert _decode(b"where is the garage,behind house one\n" * 6000 + greek * 3, "q.csv")[1] == "cp1253"


@pytest.mark.parametrize(
    "text",
    ["问题,答案\n\uf0b7" + "为什么洗手,因为有细菌\n怎么洗,用肥皂\n" * 20, "为什么洗手，因为手上有看不见的细菌\n"],
)
def test_utf16_with_an_odd_sign_or_one_line_is_utf16(text):
    assert _utf16(text.encode("utf-16-le")) == "utf-16-le"


@pytest.mark.parametrize(
    "cell",
    ["<!-- wp:paragraph --><p>Wash hands.</p><!-- /wp:paragraph -->", "<section><p>Wash hands.</p></section>",
     "<html><body><p>Wash hands.</p>", "<li>Wash hands.</li>", "<p>Wash hands.</p>&nbsp;"],
)  # fmt: skip
def test_html_as_editors_write_it_is_cleaned(tmp_path, cell):
    assert (
        read_passages(write(tmp_path / "h.csv", ("id", "text"), ("1", cell), ("2", "Dry.")))[0][0].text == "Wash hands."
    )


def test_grades_under_many_names_are_asked_for_and_a_start_is_none(tmp_path):
    rows = [(f"q{i}", f"a{i}", i % 3) for i in range(6)]
    for name in ("quality", "匹配度", "标注"):
        with pytest.raises(InputError, match=f'"{name}" holds only 0, 1, 2'):
            read_data(write(tmp_path / "g.csv", ("question", "passage", name), *rows))
    assert len(read_data(write(tmp_path / "g.csv", ("question", "passage", "start"), *rows)).groups) == 6
