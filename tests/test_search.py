"""An index on disk finds passages in both languages, whole or not at all, and the reranker orders what BM25 found."""

import json
import sys
import time

import pytest

from course_utils.data import read_grid
from course_utils.errors import InputError
from course_utils.ship import SearchIndex, build_index, search

FILES = {
    "water.md": "# Water\n\nDrink about two litres a day. In the heat, drink more.",
    "fever.txt": "A fever helps the body. Give a child small sips of water. See a doctor after three days.",
    "zh/饮食.txt": "高血压患者应当低盐饮食。每天的盐不超过五克。",
    "rows.csv": "id,text\nbus,The bus to the clinic leaves at noon.\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("handbook")
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def index(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("index") / "handbook"
    count, said = build_index(folder, out)
    assert count == 4 and "4 documents" in said[0]
    return out


def test_passages_come_with_file_and_place_in_both_languages(index, nano):
    hit = search(index, "每天的盐", nano, top_k=1)[0]
    assert hit.document == "zh/饮食.txt" and hit.place == 0 and "五克" in hit.text and 0 < hit.probability < 1
    assert search(index, "which bus goes to the clinic")[0].document == "bus"
    assert search(index, "zebra", nano) == []


def test_the_reranker_orders_what_bm25_found(index, nano):
    found = search(index, "water for a child with fever", nano)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    true = {r.document: r.score for r in nano.rank("water for a child with fever", [h.text for h in found])}
    assert all(abs(true[h.text] - h.score) < 1e-5 for h in found)
    first = search(index, "water for a child with fever")
    assert {h.text for h in first} == {h.text for h in found} and first[0].probability is None


def test_long_documents_are_cut_into_passages_that_overlap(tmp_path):
    (tmp_path / "long.txt").write_text(" ".join(f"Rule {i} is about topic {i}." for i in range(200)), encoding="utf-8")
    build_index(tmp_path / "long.txt", tmp_path / "out", size=40)
    hits = search(tmp_path / "out", "rule 150", top_k=3)
    assert "Rule 150 " in hits[0].text and hits[0].id == f"{hits[0].document}#{hits[0].place + 1}"
    texts = [SearchIndex(tmp_path / "out").text(i) for i in range(2)]
    assert texts[1].startswith(texts[0].rsplit(". ", 1)[1])


def test_equal_passages_are_kept_once_and_equal_scores_keep_the_order_of_the_files(tmp_path):
    rows = [{"text": f"the same words {c}"} for c in "abcde"] + [{"text": "the same words a"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    count, said = build_index(tmp_path / "rows.jsonl", tmp_path / "out")
    assert count == 5 and "1 passage that stands twice left out" in said
    assert [h.text[-1] for h in search(tmp_path / "out", "same words", top_k=3)] == ["a", "b", "c"]


def test_what_cannot_be_searched_is_refused_in_a_sentence(index, folder, tmp_path):
    for question, words in (("", "empty"), (None, "empty")):
        with pytest.raises(InputError, match=words):
            search(index, question)
    with pytest.raises(InputError, match="1 at least"):
        search(index, "water", top_k=0)
    with pytest.raises(InputError, match="no search index"):
        search(folder, "water")
    with pytest.raises(InputError, match="no file or folder"):
        build_index(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(InputError, match="would be written over"):
        build_index(folder, folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not written by this program"):
        build_index(folder, other)
    assert (other / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["texts.bin", "ends.npy", "ids.json", "bm25/data.csc.index.npy"])
def test_a_damaged_index_is_refused(folder, tmp_path, name):
    build_index(folder, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="no search index"):
        search(tmp_path / "out", "water")


def test_an_index_that_is_replaced_while_it_is_opened_is_one_build(tmp_path, monkeypatch):
    import bm25s

    real, left = bm25s.BM25.load, [2]

    def build(word):
        (tmp_path / "texts.txt").write_text(f"a {word} page\nb {word} page\n", encoding="utf-8")
        build_index(tmp_path / "texts.txt", tmp_path / "index")

    def replaced(*given, **more):
        found = real(*given, **more)
        if left[0]:
            left[0] -= 1
            build(f"word{left[0]}")
        return found

    build("first")  # as many passages in each build, of the same length: sizes tell nothing
    monkeypatch.setattr(bm25s.BM25, "load", replaced)
    opened = SearchIndex(tmp_path / "index")
    assert left == [0] and "word0" in opened.text(0) and opened.top("word0", 1)[0] == [0]
    left[0] = 99
    with pytest.raises(InputError, match="no search index"):
        SearchIndex(tmp_path / "index")


def test_an_index_that_cannot_be_written_leaves_the_old_one(folder, tmp_path, monkeypatch):
    build_index(folder, tmp_path / "out")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["course_utils.ship.search"], "write_json", full)  # the name is a function, too
    with pytest.raises(InputError, match="No space left"):
        build_index(folder, tmp_path / "out")
    assert search(tmp_path / "out", "water") and [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_ten_thousand_passages_are_searched_in_memory_mapped_files(tmp_path):
    texts = [p.text for language in ("en", "zh") for p in read_grid("medical", language).passages.values()]
    rows = [{"text": f"{texts[i % len(texts)]} ({i})"} for i in range(10_000)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    build_index(tmp_path / "rows.jsonl", tmp_path / "out", size=400)
    opened = SearchIndex(tmp_path / "out")
    assert opened.size == 10_000
    search(opened, "how much water to drink in a day")
    began = time.process_time()
    found = search(opened, "how much water to drink in a day 高血压", top_k=50)
    assert len(found) == 50 and time.process_time() - began < 1


def test_a_chinese_question_finds_what_shares_single_characters_with_it(tmp_path):
    (tmp_path / "pages.jsonl").write_text(
        '{"id": "a", "text": "子女未满十二周岁患病需照护的，父母每年各有十五天带薪假。"}\n'
        '{"id": "b", "text": "自行车停在地下车库，旁边有淋浴间。"}\n{"id": "c", "text": "密码不得告诉他人。"}\n',
        encoding="utf-8",
    )
    build_index(tmp_path / "pages.jsonl", tmp_path / "index")
    # no pair of characters in common, but 年, 天 and 子
    hits = search(tmp_path / "index", "一年能请几天假带生病的孩子")
    assert [h.document for h in hits][:1] == ["a"] and len(hits) < 3
