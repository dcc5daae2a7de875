"""Files of a hospital that were read wrongly in silence or refused with a false reason: pages, numbers, lists, encodings."""

import pytest

from course_utils.data import read_passages


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
