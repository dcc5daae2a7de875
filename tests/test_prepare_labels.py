"""Right answers that stand in several passages, that are lists of names, and a questions file inside the handbook."""

import csv
import unicodedata

import pytest

from course_utils.data import prepare
from course_utils.data.groups import Group
from course_utils.data.match import _is_id
from course_utils.data.passages import read_passages
from course_utils.errors import InputError

FIRST = ("parental", "night", "parking", "linen", "consent", "fire", "travel", "visitor")
THINGS = [f"{a} {b}" for a in FIRST for b in ("leave", "duty", "form", "room", "list")]
TEXTS = [
    f"For the {t} ask desk {i * 37 + 5}, which keeps book {i * 13}{t[:3]} of {t[::-1]} cases."
    for i, t in enumerate(THINGS)
]
IDS = [f"{i:03}" for i in range(1, 41)]
DESK = "Questions are answered on extension 4444 at any hour."


def write(path, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def made(folder, answers, texts, **how):
    """Return what prepare makes of questions on THINGS with these answers, and of the (id, text) of a handbook."""
    rows = [(f"who knows of the {t} here", a) for t, a in zip(THINGS, answers, strict=False) if a]
    questions = write(folder / "q.csv", ("question", "answer"), *rows)
    return prepare(questions, write(folder / "h.csv", ("id", "text"), *texts), **how)


def lists(done):
    return [g for own in done.parts.values() for g in own]


def wrong(g):
    return [d for d, r in zip(g.documents, g.relevance, strict=True) if not r]


def test_a_passage_that_holds_the_answer_too_is_not_wrong(tmp_path):
    texts = [f"{t} {DESK.upper()}" if i < 8 else t for i, t in enumerate(TEXTS)]
    done = made(tmp_path, [DESK, *[""] * 7, *TEXTS[8:]], zip(IDS, texts, strict=True))
    (own,) = (g for g in lists(done) if g.query.endswith("parental leave here"))
    assert wrong(own) and not [d for d in wrong(own) if "4444" in d]
    assert "7 times a passage holds a right answer too" in str(done)


def test_nearly_the_same_passage_is_not_wrong(tmp_path):
    twins = [(f"{i}b", f"{t} (printed copy)") for i, t in zip(IDS, TEXTS, strict=True)]
    done = made(tmp_path, IDS, [*zip(IDS, TEXTS, strict=True), *twins])
    for g in lists(done):
        assert wrong(g) and f"{g.positives[0]} (printed copy)" not in wrong(g)
    assert "40 times a passage" in str(done)


@pytest.mark.parametrize(
    ("joint", "column"), [("; ", "id"), (",", "id"), ("/", "id"), (" | ", "Code"), ("\n", "Code"), ("；", "Code")]
)
def test_a_list_of_ids_is_the_passages_called_so(tmp_path, joint, column):
    rows = [(f"who knows of the {t} here", joint.join(IDS[i * 2 : i * 2 + 2])) for i, t in enumerate(THINGS[:20])]
    questions = write(tmp_path / "q.csv", ("question", "answer"), *rows)
    handbook = write(tmp_path / "h.csv", (column, "text"), *zip(IDS, TEXTS, strict=True))
    done = prepare(questions, handbook)
    assert {frozenset(g.positives) for g in lists(done)} == {frozenset(TEXTS[i : i + 2]) for i in range(0, 40, 2)}


def test_the_questions_file_is_no_part_of_the_handbook(tmp_path):
    for i, text in zip(IDS, TEXTS, strict=True):
        (tmp_path / f"{i}.txt").write_text(text)
    rows = [(f"who knows of the {t} here", i) for t, i in zip(THINGS, IDS, strict=True)]
    done = prepare(write(tmp_path / "q.csv", ("question", "answer"), *rows), tmp_path)
    assert {g.positives[0] for g in lists(done)} == set(TEXTS) == {p.text for p in done.passages}
    assert "the file of the questions left out" in str(done) and "40 by the name of a passage" in str(done)


def test_lists_of_codes_of_no_passage_are_not_learned(tmp_path):
    codes = [f"X-{i}; Y-{i}; Z-{i}; V-{i}; W-{i}" for i in range(40)]
    with pytest.raises(InputError, match="look like ids"):
        made(tmp_path, codes, zip(IDS, TEXTS, strict=True))
    done = made(tmp_path, [*IDS[:36], *codes[36:]], zip(IDS, TEXTS, strict=True))
    assert len(lists(done)) == 36 and "4 look like ids that no passage has" in str(done)


def test_what_looks_like_ids():
    assert all(
        map(
            _is_id,
            ["005; 006; 007; 008; 009", "3.1.2.4.5", "N-1-2-3|N-1-2-4", "rules.txt", "第3条，第4条，第15条，第16条"],
        )
    )
    assert not any(
        map(_is_id, ["within two weeks, at the desk", "每日更换敷料，观察伤口渗血", "ask the ward; then the desk"])
    )


def test_a_sentence_with_numbers_is_no_list_of_ids():
    sentences = (
        "超过3天需经理批准，超过5天需总监批准",
        "一年可休15天，两年可休20天，三年可休25天",
        "apples, pears, plums, cherries, grapes",
    )
    assert not any(map(_is_id, sentences)) and _is_id("3.1.2.4; 3.1.2.5; 3.1.2.6; 3.1.2.7")


def test_ids_with_a_comma_are_found_by_their_values(tmp_path):
    handbook = tmp_path / "k.csv"
    handbook.write_text(
        "Clause,Text\n"
        + "".join(f'"{i},1","Rule {i} is about topic {i} and says what holds there."\n' for i in range(5, 45))
    )
    questions = [Group(f"what is rule {i} about?", (f"{i},1",), (1,)) for i in range(5, 45)]
    found = prepare(questions, handbook)
    assert all("Rule" in g.positives[0] for part in found.parts.values() for g in part)


def test_lines_of_prose_with_a_comma_are_texts(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text(
        "年假为十五天,需提前申请\n病假须附证明,三天内提交\n加班须事先批准\n出差补贴每天一百元,按月发放\n",
        encoding="utf-8",
    )
    assert len(read_passages(path)[0]) == 4


def test_a_file_name_from_a_mac_is_the_name_that_people_type(tmp_path):
    folder = tmp_path / "handbook"
    folder.mkdir()
    for t, text in zip(THINGS, TEXTS, strict=True):
        (folder / unicodedata.normalize("NFD", f"Pflegeübung {t}.txt")).write_text(text)
    rows = [(f"who knows of the {t} here", f"Pflegeübung {t}.txt") for t in THINGS]
    done = prepare(write(tmp_path / "q.csv", ("question", "answer"), *rows), folder)
    assert {d for g in lists(done) for d in g.positives} == set(TEXTS)
