"""From questions with right passages and a handbook to lists: split first, no leak, passages cut at sentences."""

import json
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import openpyxl
import pytest

from course_utils import data
from course_utils.data import Group, Plan, prepare, read_passages
from course_utils.data.passages import _cut, _units
from course_utils.errors import InputError
from course_utils.ship import SearchIndex, build_index

WARDS = ["surgery", "children", "heart", "eyes", "skin", "lungs", "kidneys", "bones", "nerves", "births"]
DUTIES = ["admission", "discharge", "visits", "meals", "medicine", "laundry", "parking", "records"]


def sentence(random_, ward, duty):
    """One made-up rule of a hospital."""
    words = [
        "the",
        "nurse",
        "in",
        "charge",
        "signs",
        "keeps",
        "calls",
        "checks",
        "form",
        "badge",
        "list",
        "door",
        "early",
        "late",
        "never",
        "always",
    ]
    return f"On the {ward} ward {duty} follows rule {random_.randint(100, 999)}: {' '.join(random_.sample(words, 9))}."


@pytest.fixture
def handbook(tmp_path):
    """A folder of 80 paragraphs, some of them twice with other spaces, and an Excel file of 60 questions."""
    random_ = random.Random(0)
    folder = tmp_path / "handbook"
    folder.mkdir()
    texts = {(w, d): f"{sentence(random_, w, d)} {sentence(random_, w, d)}" for w in WARDS for d in DUTIES}
    for (w, d), text in texts.items():
        (folder / f"{w}-{d}.txt").write_text(text)
    copied = list(texts)[::8]
    for w, d in copied:
        (folder / f"copy-{w}-{d}.txt").write_text(texts[w, d].replace(" ", "  ").replace(":", " -"))
    book = openpyxl.Workbook()
    book.active.append(["Question", "Paragraph"])
    for w, d in random_.sample(list(texts), 60):
        book.active.append([f"Which rule holds for {d} on the {w} ward?", texts[w, d]])
    book.save(tmp_path / "questions.xlsx")
    return tmp_path


def test_the_hospital_gets_lists_without_a_leak(handbook):
    out = handbook / "prepared"
    done = prepare(handbook / "questions.xlsx", handbook / "handbook", out)
    assert [len(done.parts[p]) for p in ("train", "dev", "test")] == [42, 6, 12]
    names = {"train.jsonl", "dev.jsonl", "test.jsonl", "passages.jsonl", "suspects.jsonl", "report.txt"}
    assert names <= {p.name for p in out.iterdir()}
    train, dev, test = (data.read_groups(out / f"{p}.jsonl") for p in ("train", "dev", "test"))
    assert [g.query for g in train] == [g.query for g in done.parts["train"]]
    for one, other in ((train, dev), (train, test), (dev, test)):
        assert not data.leaks(one, other)
    report = data.check_file(out / "train.jsonl", out / "test.jsonl")
    assert report.ok and "answer among negatives" not in report.counts
    for g in [*train, *dev, *test]:
        assert sum(g.relevance) == 1 and g.relevance.count(0) >= 2
    # A passage serves one part: what the test calls wrong was not seen in training.
    shown = [{d for g in part for d in g.documents} for part in (train, dev, test)]
    assert not shown[0] & shown[2] and not shown[0] & shown[1] and not shown[1] & shown[2]
    text = (out / "report.txt").read_text()
    assert text == f"{done}\n" and "Split by query: 42 / 6 / 12 questions" in text
    assert (
        "60 are a passage as it stands" in text and "among the first 10" in text and "for +-0.03 add about 159" in text
    )
    assert done.recall[10] <= done.recall[20] <= done.recall[50] <= 1 and done.as_dict()["queries"]["test"] == 12
    again = prepare(handbook / "questions.xlsx", handbook / "handbook")
    assert (
        again.parts
        == done.parts
        != prepare(handbook / "questions.xlsx", handbook / "handbook", plan=Plan(seed=1)).parts
    )


def test_the_obvious_reading_leaks_and_is_refused_with_its_count(handbook):
    groups = data.read_data(handbook / "questions.xlsx").groups
    train, test = data.split(groups, (0.7, 0.3))
    passages, _ = read_passages(handbook / "handbook")
    mined, _ = data.mine(train, [p.text for p in passages], hard=8)
    found = data.leaks(mined, test)
    right = {d for g in test for d in g.positives}
    assert len({other for _, other, _ in found.answers}) > len(right) / 2
    report = data.check_groups(mined, test)
    assert not report.ok and f"of {len(right)}, in" in str(report)


def test_an_old_folder_that_is_not_ours_is_refused_before_the_work(handbook):
    with pytest.raises(InputError):
        prepare(handbook / "questions.xlsx", handbook / "handbook", handbook / "handbook")
    assert len(list((handbook / "handbook").iterdir())) == 90


def test_questions_with_topics_are_split_by_topic(handbook):
    passages, _ = read_passages(handbook / "handbook")
    groups = [
        Group(f"question {i}", (p.text,), (1,), p.document.split("-")[0])
        for i, p in enumerate(p for p in passages if not p.document.startswith("copy"))
    ]
    done = prepare(groups, handbook / "handbook", plan=Plan(fractions=(0.6, 0.2, 0.2)))
    assert "Split by topic" in str(done)
    topics = [{g.topic for g in part} for part in done.parts.values()]
    assert not topics[0] & topics[1] and not topics[0] & topics[2] and not topics[1] & topics[2]


def long_document(n, words=30):
    return "\n".join(f"Chapter {n} sentence {i} {' '.join(f'w{n}x{i}y{j}' for j in range(words))}." for i in range(20))


def test_long_documents_are_cut_and_the_piece_with_the_answer_is_the_right_one(tmp_path):
    folder = tmp_path / "book"
    folder.mkdir()
    for n in range(20):
        (folder / f"chapter{n}.md").write_text(f"# Chapter {n}\n\n{long_document(n)}")
    groups = [
        Group(f"What is w{n}x{i}y3 about?", (f"chapter{n}.md" if i % 2 else long_document(n).split("\n")[i],), (1,))
        for n in range(20)
        for i in (3, 12)
    ]
    done = prepare(groups, folder, plan=Plan(size=120))
    assert (
        "Split by document" in str(done)
        and "by the name of a passage" in str(done)
        and "part of a passage" in str(done)
    )
    pieces = {p.text: p for p in done.passages}
    assert len({p.id for p in done.passages}) == len(done.passages) > 100
    for g in [g for part in done.parts.values() for g in part]:
        word = g.query.split()[2]
        right = [pieces[d] for d in g.positives]
        assert len(right) == 1 and word in right[0].text
        wrong = [pieces[d] for d, r in zip(g.documents, g.relevance, strict=True) if not r]
        assert wrong and not any(p.document == right[0].document and abs(p.place - right[0].place) <= 1 for p in wrong)
        assert not any(word in p.text for p in wrong)
    homes = [{pieces[d].document for g in part for d in g.documents} for part in done.parts.values()]
    assert not homes[0] & homes[2] and not homes[0] & homes[1] and not homes[1] & homes[2]


@pytest.mark.parametrize("overlap", [0, 1, 2])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_pieces_hold_every_sentence_and_share_the_last_ones(language, overlap):
    random_ = random.Random(overlap)
    if language == "en":
        sentences = [f"Sentence {i} has {' '.join(['word'] * random_.randint(1, 30))} in it." for i in range(60)]
        text = " ".join(sentences)
    else:
        sentences = [f"第{i}句{'话' * random_.randint(1, 30)}。" for i in range(60)]
        text = "".join(sentences)
    pieces = _cut("book", text, 80, overlap)
    assert [p.id for p in pieces] == [f"book#{i}" for i in range(1, len(pieces) + 1)]
    assert all(_units(p.text) <= 80 for p in pieces) and all(any(s in p.text for p in pieces) for s in sentences)
    shared = [sum(s in a.text and s in b.text for s in sentences) for a, b in pairwise(pieces)]
    assert max(shared) <= overlap and (overlap == 0 or np.mean(shared) > 0.8 * overlap)
    assert _cut("short", " one sentence. ", 80, overlap)[0].text == "one sentence."


def test_a_sentence_without_an_end_is_cut_between_words():
    pieces = _cut("x", " ".join(f"w{i}" for i in range(100)), 30, 1)
    assert " ".join(p.text for p in pieces).split() == [f"w{i}" for i in range(100)]
    assert all(_units(p.text) <= 30 for p in pieces)


def test_numbers_and_signs_of_a_markdown_file_stay(tmp_path):
    file = tmp_path / "dose.md"
    text = "Closed on\n24. December, stored at\n- 20 °C, report\n> 5 mmol/l, dose 2*3*4 mg, 剂量2*3*4。"
    file.write_text(f"## Ward\n\n{text} It is *urgent*, **very**.\n")
    assert read_passages(file)[0][0].text == f"Ward\n\n{text} It is urgent, very."


def test_every_kind_of_file_gives_its_text(tmp_path):
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("Plain text.\nSecond line.")
    (folder / "b.md").write_text(
        "# Title\n\nSome **bold** and _soft_ words, a `my_name_x`, 2 * 3 * 4 and a [link](http://x.y).\n\n- item one\n"
    )
    (folder / "deep" / "c.html").write_text(
        "<html><head><title>Page</title><script>no()</script><style>p {}</style></head>"
        "<body><p>First &amp; best.</p><div>Second<br>line</div></body></html>"
    )
    (folder / "d.csv").write_text("id;title;text\n7;Head;Row one\n8;;Row two\n")
    (folder / "e.jsonl").write_text(json.dumps({"_id": "x1", "text": "A JSON row"}) + "\n")
    (folder / "f.docx").write_bytes(b"x")
    (folder / ".hidden").write_text("no")
    (folder / "empty.txt").write_text(" ")
    passages, said = read_passages(folder)
    texts = {p.id: p.text for p in passages}
    assert texts["a.txt"] == "Plain text.\nSecond line." and texts["7"] == "Head Row one" and texts["8"] == "Row two"
    assert (
        texts["b.md"] == "Title\n\nSome bold and soft words, a my_name_x, 2 * 3 * 4 and a link.\n\n- item one"
        and texts["x1"] == "A JSON row"
    )
    assert (
        texts["deep/c.html"].split() == ["Page", "First", "&", "best.", "Second", "line"]
        and "no()" not in texts["deep/c.html"]
    )
    assert "1 files of the unknown format .docx not read" in said and "1 files without text not read" in said
    assert len(passages) == 6


def test_one_text_file_holds_paragraphs_or_lines(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("first\nline\n\nsecond\n\n\nthird")
    assert [p.text for p in read_passages(path)[0]] == ["first\nline", "second", "third"]
    path.write_text("one\ntwo\nthree\n")
    passages, _ = read_passages(path)
    assert [(p.id, p.text) for p in passages] == [("book.txt:1", "one"), ("book.txt:2", "two"), ("book.txt:3", "three")]
    path.write_text(" ")
    with pytest.raises(InputError, match="holds no text"):
        read_passages(path)
    with pytest.raises(InputError, match="There is no file or folder"):
        read_passages(tmp_path / "none")


def test_a_pdf_is_read_and_a_broken_one_named(tmp_path):
    stream = b"BT /F1 12 Tf 20 100 Td (The ward opens at nine.) Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, places = b"%PDF-1.4\n", []
    for i, one in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (i, one)
    table = b"".join(b"%010d 00000 n \n" % p for p in places)
    end = (
        b"xref\n0 6\n0000000000 65535 f \n"
        + table
        + b"trailer<</Root 1 0 R/Size 6>>\nstartxref\n%d\n%%%%EOF" % len(body)
    )
    path = tmp_path / "rules.pdf"
    path.write_bytes(body + end)
    assert [p.text for p in read_passages(path)[0]] == ["The ward opens at nine."]
    path.write_bytes(b"%PDF-1.4 broken")
    with pytest.raises(InputError, match="cannot be read as a PDF"):
        read_passages(path)


def test_chinese_recall_is_the_share_of_questions_whose_passage_the_search_finds(tmp_path):
    pages = ["".join(chr(0x4E00 + 10 * i + j) for j in range(10)) for i in range(24)]
    (tmp_path / "pages.txt").write_text("\n".join(pages), encoding="utf-8")
    asked = [page[7] + page[2] for page in pages[:12]]  # characters of the passage, but no pair of neighbours
    asked[0] = "龍龜"  # shares nothing
    done = prepare([Group(q, (p,), (1,)) for q, p in zip(asked, pages, strict=False)], tmp_path / "pages.txt")
    build_index(tmp_path / "pages.txt", tmp_path / "index")
    index = SearchIndex(tmp_path / "index")
    found = [p in map(index.text, index.first_stage(q, 10)[0]) for q, p in zip(asked, pages, strict=False)]
    assert done.recall[10] == np.mean(found) == 11 / 12


class Judge:
    """A reranker that likes everything that speaks of the heart ward as much as the right answer."""

    def score_groups(self, groups):
        """Return logits."""
        return [np.array([3.0 if "heart" in d else -3.0 for d in documents]) for _, documents in groups]


def test_the_reranker_keeps_likely_right_answers_out(handbook):
    done = prepare(handbook / "questions.xlsx", handbook / "handbook", reranker=Judge())
    assert done.dropped > 0 and "likes as much as a right answer" in str(done)
    for g in [g for part in done.parts.values() for g in part if "heart" in g.positives[0]]:
        hard = [d for d, r in zip(g.documents, g.relevance, strict=True) if not r and "heart" in d]
        assert len(hard) <= 2  # the random ones are not judged


def clinic(folder, head=("Code", "Chapter", "Text"), named="N-{:03}"):
    """Write handbook.xlsx with 80 rows under ``head`` and asked.xlsx, whose right documents are ids."""
    random_ = random.Random(1)
    book, asked = openpyxl.Workbook(), openpyxl.Workbook()
    book.active.append(head)
    asked.active.append(["Question", "Place"])
    for i, (w, d) in enumerate((w, d) for w in WARDS for d in DUTIES):
        book.active.append([f"N-{i:03}", w, f"{sentence(random_, w, d)} {sentence(random_, w, d)}"])
        asked.active.append([f"Which rule holds for {d} on the {w} ward?", named.format(i)])
    book.save(folder / "handbook.xlsx")
    asked.save(folder / "asked.xlsx")
    return folder / "asked.xlsx", folder / "handbook.xlsx"


PLACE = {"query": "Question", "document": "Place"}


def test_the_ids_of_a_handbook_are_found_by_what_the_questions_name(tmp_path):
    done = prepare(*clinic(tmp_path), columns=PLACE)
    assert "texts from Text; ids from Code, whose values the questions name; not used: Chapter." in str(done)
    assert "80 by the name of a passage" in str(done) and done.passages[0].id == "N-000"
    pieces = {p.text for p in done.passages}
    assert all(set(g.positives) <= pieces for part in done.parts.values() for g in part)
    passages, said = read_passages(tmp_path / "handbook.xlsx")
    assert passages[0].id == "handbook.xlsx:2" and "no column of ids found; not used: Code, Chapter" in said[1]
    passages, said = read_passages(tmp_path / "handbook.xlsx", columns={"id": "Code"})
    assert passages[0].id == "N-000" and "ids from Code; not used: Chapter" in said[1]


def test_values_say_more_than_the_usual_name_of_a_column(tmp_path):
    done = prepare(*clinic(tmp_path, ("Code", "id", "Text")), columns=PLACE)
    assert "ids from Code, whose values the questions name; not used: id." in str(done)


def with_header(book, name):
    sheet = openpyxl.load_workbook(book)
    sheet.active["A1"] = name
    sheet.save(book)
    return book


def with_column(book, name, values):
    sheet = openpyxl.load_workbook(book)
    column = sheet.active.max_column + 1
    for row, value in enumerate([name, *values], 1):
        sheet.active.cell(row, column, value)
    sheet.save(book)


def test_of_two_columns_with_the_ids_the_one_that_can_be_it_is_taken_or_asked_for(tmp_path):
    asked, book = clinic(tmp_path, ("Code", "Chapter", "Text"))
    with_column(book, "Copy", [f"N-{i:03}" for i in range(79)] + ["N-000"])  # N-000 stands twice
    assert "ids from Code, whose values" in str(prepare(asked, book, columns=PLACE))
    with_column(book, "Old", [f"N-{79 - i:03}" for i in range(80)])
    with pytest.raises(InputError, match=r'Several columns may be the id: Code, Old.*--passage-columns "id='):
        prepare(asked, book, columns=PLACE)
    with_column(book, "Nr.", [f"N-{i:03}" for i in range(80)])
    assert "ids from Nr., whose values" in str(prepare(asked, book, columns=PLACE))


def test_rows_of_a_handbook_that_share_an_id_are_one_document(tmp_path):
    asked, book = clinic(tmp_path)
    sheet = openpyxl.load_workbook(book)
    for i in range(10):
        sheet.active.append([f"N-{i:03}", "more", f"The same holds on Sundays for rule {i}."])
    sheet.save(book)
    done = prepare(asked, book, columns=PLACE)
    assert "ids from Code, whose values" in str(done) and "10 rows joined to an earlier one with their id" in str(done)
    assert len(done.passages) == 80 and done.passages[3].text.endswith("\n\nThe same holds on Sundays for rule 3.")
    with pytest.raises(
        InputError, match=r'the id "N-000" stands twice\. Name another column with the ids, or this one'
    ):
        read_passages(with_header(book, "id"))  # nothing says that this column has the ids
    assert len(read_passages(book, columns={"id": "id"})[0]) == 80


@pytest.mark.parametrize("named", ["candle-bridge {}", "第 {} 条", "rules"])
def test_names_of_nothing_are_refused_with_and_without_digits(tmp_path, named):
    with pytest.raises(InputError, match="look like ids of passages"):
        prepare(*clinic(tmp_path, named=named), columns=PLACE)


def test_wrong_documents_may_be_named_too_and_short_answers_are_no_names(tmp_path):
    _asked, book = clinic(tmp_path)
    texts = {p.id: p.text for p in read_passages(book, columns={"id": "Code"})[0]}
    groups = [Group(f"{w} {d}", (f"N-{i:03}", f"N-{(i + 1) % 80:03}", "N-999"), (1, 0, 0)) for i, (w, d) in enumerate((w, d) for w in WARDS for d in DUTIES)]  # fmt: skip
    done = prepare(groups, book)
    lists = [g for part in done.parts.values() for g in part]
    assert lists and all(set(g.documents) <= set(texts.values()) for g in lists)
    short = " ".join(texts["N-000"].split()[:2])
    groups[:1] = [Group("what is short", (short,), (1,))]
    assert "are in no passage" in str(prepare(groups, book)) and "look like ids" not in str(prepare(groups, book))


def test_a_few_names_of_nothing_are_left_out_with_their_questions(tmp_path):
    asked, book = clinic(tmp_path)
    sheet = openpyxl.load_workbook(asked)
    for row in range(2, 12):
        sheet.active.cell(row, 2, f"X-{row}")
    sheet.save(asked)
    done = prepare(asked, book, columns=PLACE)
    assert (
        '10 look like ids that no passage has, for example "X-2", and are left out, and with them 10 questions'
        in str(done)
    )
    groups = [g for part in done.parts.values() for g in part]
    assert len(groups) == 70 and not any(d.startswith("X-") for g in groups for d in g.documents)


def test_right_documents_that_are_unknown_ids_are_refused_before_a_file_is_written(tmp_path, handbook):
    asked, book = clinic(tmp_path, named="H-{:03}")
    for source, seen in (
        (book, r"texts from Text; no column of ids found; not used: Code, Chapter"),
        (handbook / "handbook", "90 documents"),
    ):
        with pytest.raises(
            InputError, match=r'80 of 80 right documents .* look like ids .* for example "H-000"'
        ) as refused:
            prepare(asked, source, tmp_path / "out", columns=PLACE)
        assert seen in str(refused.value) and "(--passage-columns id=COLUMN)" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_unknown_texts_stand_in_the_lists_alone_and_that_is_said(handbook):
    groups = data.read_data(handbook / "questions.xlsx").groups
    groups = [
        *(replace(g, query=f"zzz{i}") for i, g in enumerate(groups[:5])),
        *groups[5:50],
        *(Group(f"{g.query} {i}", (f"Nobody wrote down what {i} asks for.",), (1,)) for i, g in enumerate(groups[50:])),
    ]
    done = prepare(groups, handbook / "handbook", handbook / "out")
    assert (
        '10 are in no passage, for example "Nobody wrote down what 0 asks for.", and stand in the lists alone'
        in str(done)
    )
    assert "What the search finds is counted over 50 questions; no passage is the right text of the other 10." in str(
        done
    )
    assert done.recall[50] == 45 / 50, "five of the fifty share no word with a passage"
    lists = "".join((handbook / "out" / f"{part}.jsonl").read_text() for part in ("train", "dev", "test"))
    assert "Nobody wrote" in lists and "Nobody wrote" not in (handbook / "out" / "passages.jsonl").read_text()


def test_handbooks_are_read_as_the_options_say(tmp_path, monkeypatch, capsys):
    from course_utils.cli import main

    clinic(tmp_path, ("Code", "Chapter", "Wording"))
    book = openpyxl.load_workbook(tmp_path / "handbook.xlsx")
    book.create_sheet("Notes").append(["nothing", "here"])
    book.save(tmp_path / "handbook.xlsx")
    monkeypatch.chdir(tmp_path)
    questions = [
        "data",
        "prepare",
        "asked.xlsx",
        "handbook.xlsx",
        "--out",
        "out",
        "--columns",
        "query=Question,document=Place",
    ]
    index = ["index", "handbook.xlsx", "--out", "index"]
    for command, before in ((questions, "passage-"), (index, "")):
        plain = before.replace("-", "_")
        assert main(command) == 2
        assert (
            f"handbook.xlsx has 2 sheets with data: Sheet, Notes. Name one: {plain}sheet=... (--{before}sheet)."
            in capsys.readouterr().err
        )
        command += [f"--{before}sheet", "Sheet"]
        assert main(command) == 2
        said = capsys.readouterr().err
        assert (
            "error: handbook.xlsx: No column is the document for certain; the columns are: Code, Chapter, Wording. "
            in said
        )
        assert f'Name one: {plain}columns={{"document": "Wording"}} (--{before}columns "document=Wording").' in said
        assert main([*command, f"--{before}columns", "document=Wording,id=Code"]) == 0
        assert "texts from Wording; ids from Code; not used: Chapter" in capsys.readouterr().out
    assert SearchIndex(tmp_path / "index").ids[0][0] == "N-000"


def test_what_prepare_writes_is_a_handbook_too(tmp_path):
    prepare(*clinic(tmp_path), tmp_path / "out", columns=PLACE)
    passages, said = read_passages(tmp_path / "out" / "passages.jsonl")
    assert passages[0].id == "N-000" and passages[0].text.startswith("On the surgery ward")
    assert "texts from text; ids from id; not used: document" in said


def test_lists_that_were_changed_by_hand_are_kept(handbook):
    make = lambda: prepare(handbook / "questions.xlsx", handbook / "handbook", handbook / "out")  # noqa: E731
    make()
    make()  # nothing was changed
    path = handbook / "out" / "test.jsonl"
    changed = path.read_text().replace('"relevance": 0', '"relevance": 1', 1)
    path.write_text(changed)
    with pytest.raises(InputError, match=r"test.jsonl was changed since this program wrote it"):
        make()
    assert path.read_text() == changed
    path.unlink()
    make()
    assert path.read_text() != changed


def test_prepare_and_index_cut_alike():
    import inspect

    assert Plan().size == inspect.signature(build_index).parameters["size"].default
    assert Plan().size == inspect.signature(read_passages).parameters["size"].default


def test_wrong_plans_and_too_few_questions_are_refused(handbook):
    for plan, message in (
        ({"by": "chance"}, 'by is "chance"'),
        ({"fractions": (0.5, 0.5)}, "three shares"),
        ({"hard": 0, "random_negatives": 0}, "ask for one"),
    ):
        with pytest.raises(InputError, match=message):
            Plan(**plan)
    passages, _ = read_passages(handbook / "handbook")
    one = [Group("q", (passages[0].text,), (1,))]
    with pytest.raises(InputError, match="too few for 3 parts"):
        prepare(one, handbook / "handbook")
    with pytest.raises(InputError, match="No question has a right passage"):
        prepare([Group("q", ("x",), (0,))], handbook / "handbook")
    with pytest.raises(InputError, match="No query has a topic to split by"):
        data.split(one * 3, by="topic")


def test_the_road_from_a_spreadsheet_in_commands(handbook, monkeypatch, capsys):
    from course_utils.cli import main

    monkeypatch.chdir(handbook)
    run = lambda *arguments: (main([str(a) for a in arguments]), capsys.readouterr())  # noqa: E731
    code, said = run("data", "convert", "questions.xlsx", "pairs.jsonl")
    assert code == 0 and "(Question, Paragraph)" in said.out and len(data.read_groups("pairs.jsonl")) == 60
    code, said = run("data", "convert", "questions.xlsx", "pairs.jsonl")
    assert code == 0  # the same lines again
    (handbook / "pairs.jsonl").write_text("mine\n")
    code, said = run("data", "convert", "questions.xlsx", "pairs.jsonl")
    assert code == 2 and "pairs.jsonl is there and holds other lines" in said.err
    assert (handbook / "pairs.jsonl").read_text() == "mine\n"
    code, said = run("data", "convert", "questions.xlsx", "pairs.jsonl", "--overwrite")
    assert code == 0 and len(data.read_groups("pairs.jsonl")) == 60
    code, said = run("data", "prepare", "questions.xlsx", "handbook", "--out", "prepared", "--json", "report.json")
    assert code == 0 and "Next: python -m course_utils adapt --train prepared/train.jsonl" in said.out
    assert json.loads((handbook / "report.json").read_text())["queries"] == {"train": 42, "dev": 6, "test": 12}
    code, said = run("data", "check", "prepared/train.jsonl", "--test", "prepared/test.jsonl")
    assert code == 0 and "nothing shared" in said.out
    for arguments, message in (
        (["convert", "questions.xlsx", "x.jsonl", "--columns", "query"], "write it as query=Question"),
        (["convert", "questions.xlsx", "x.jsonl", "--columns", "query=Frage"], 'No column is named "Frage"'),
        (["convert", "questions.xlsx", "x.jsonl", "--separator", ";;"], "give one character, or tab"),
        (["prepare", "questions.xlsx", "handbook", "--out", "handbook"], "handbook"),
        (["prepare", "questions.xlsx", "handbook", "--out", "p", "--fractions", "half"], "three shares"),
    ):
        code, said = run("data", *arguments)
        assert (
            code == 2 and message in said.err and not (handbook / "x.jsonl").exists() and not (handbook / "p").exists()
        )
