"""Files of a hospital that were read wrongly in silence or refused with a false reason: pages, numbers, lists, encodings."""

import csv

import pytest

from course_utils.data import Group, prepare, read_passages
from course_utils.data.match import _Index, _match
from course_utils.errors import InputError


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
    assert said[-2:] == ["1 files without text left out", "without text: b.html"]


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
    assert '40 ids stand in several files with other texts and have the file before them: "hr.csv 1"' in said
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
