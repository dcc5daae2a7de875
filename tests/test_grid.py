"""The course's own data: sizes, splits, candidate lists, the data commands."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from course_utils import data
from course_utils.cli import card, main
from course_utils.cli import data as data_cli
from course_utils.data import grid, near
from course_utils.data import report as data_report
from course_utils.data.groups import check_no_leak
from course_utils.data.negatives import Bm25, bm25_scores, random_scores
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate_scores

SETS = [(domain, language) for domain in grid.DOMAINS for language in grid.LANGUAGES]


@pytest.fixture(scope="module", params=SETS, ids="/".join)
def one(request):
    """A grid of the course and its candidate lists by split."""
    g = grid.read_grid(*request.param)
    return g, {split: grid.grid_groups(g, split) for split in grid.SPLITS}


def test_a_grid_has_the_promised_size(one):
    g, _ = one
    aspects = Counter(topic for topic, _ in g.passages)
    assert len(aspects) >= 50 and min(aspects.values()) >= 5
    assert len(g.passages) >= 250 and len(g.queries) >= 750
    asked = Counter((q.topic, a) for q in g.queries for a in q.aspects)
    assert min(asked[cell] for cell in g.passages) >= 3
    assert any(len(q.aspects) > 1 for q in g.queries)


def test_passages_have_the_promised_length_and_differ(one):
    g, _ = one
    sizes = [card.size(p.text, g.language) for p in g.passages.values()]
    low, high = (60, 140) if g.language == "zh" else (25, 60)
    assert low <= min(sizes) and max(sizes) <= high
    texts = [p.text for p in g.passages.values()]
    assert [m[:2] for m in near.near_duplicates(texts, texts, **near.DOCUMENTS)] == [(t, t) for t in texts]


@pytest.mark.slow
def test_nothing_crosses_the_splits(one):
    g, groups = one
    assert card.overlaps(g) == [0, 0, 0, 0, 0]
    assert set(g.splits) == set(g.topics())
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not {d for x in groups[a] for d in x.documents} & {d for x in groups[b] for d in x.documents}
        check_no_leak(groups[a], groups[b])
        assert not data.leaks(groups[a], groups[b])
    shares = [len(g.topics(split)) / len(g.topics()) for split in grid.SPLITS]
    assert shares == pytest.approx([0.62, 0.13, 0.25], abs=0.03)


def test_every_marked_passage_is_in_its_list_and_nothing_else_is_marked(one):
    g, groups = one
    for split in grid.SPLITS:
        queries = [q for q in g.queries if g.splits[q.topic] == split]
        assert [x.query for x in groups[split]] == [q.text for q in queries]
        for q, x in zip(queries, groups[split], strict=True):
            assert set(x.positives) == {g.passages[q.topic, a].text for a in q.aspects}
            assert len(set(x.documents)) == len(x.documents) and 0 in x.relevance and x.topic == q.topic


def test_lists_hold_both_kinds_of_hard_negative(one):
    g, groups = one
    cell = {p.text: p for p in g.passages.values()}
    same_topic, same_aspect = [], []
    queries = {q.text: q for q in g.queries}
    for x in groups["test"]:
        q = queries[x.query]
        wrong = [cell[d] for d, r in zip(x.documents, x.relevance, strict=True) if not r and d in cell]
        same_topic.append(sum(p.topic == q.topic for p in wrong))
        same_aspect.append(sum(p.topic != q.topic and p.aspect in q.aspects for p in wrong))
    assert np.mean(same_topic) >= 3 and np.mean(same_aspect) >= 1.5
    places = [i for x in groups["test"] for i, r in enumerate(x.relevance) if r]
    assert 3 < np.mean(places) < 7  # shuffled: about the middle of ten


def test_candidate_lists_are_the_same_each_time(one):
    g, groups = one
    assert data.load_domain(g.domain, g.language, "dev", source="grid") == groups["dev"]
    g.queries.reverse()
    assert grid.grid_groups(g, "dev") == groups["dev"][::-1]
    g.queries.reverse()


def test_bm25_is_neither_enough_nor_useless(one):
    grid, groups = one
    ndcg = evaluate_scores(bm25_scores(groups["test"]), groups["test"]).summary["ndcg@10"]
    # The lists were written against BM25 by words and, in Chinese, pairs of characters; single ones, too, find more.
    index = Bm25(d for g in groups["test"] for d in g.documents)
    scores = [index.scores(g.query)[[index.place[d] for d in g.documents]] for g in groups["test"]]
    assert 0.45 <= evaluate_scores(scores, groups["test"]).summary["ndcg@10"] <= 0.80
    assert 0.45 <= ndcg <= (0.80 if grid.language == "en" else 0.88)
    chance = evaluate_scores(random_scores(groups["test"]), groups["test"]).summary["ndcg@10"]
    assert chance < ndcg - 0.1


@pytest.mark.slow
def test_a_colleague_finds_nothing_to_mend(one):
    _, groups = one
    report = data_report.check_groups(groups["train"], groups["test"])
    assert report.ok and report.counts.keys() <= {"few pairs"}, str(report)


GRID = """# gout
## symptoms
A joint hurts at night.
- big toe hurts

- what is gout like {diet}
## diet
Less beer helps.
- what to eat
"""


def test_a_grid_is_parsed():
    passages, queries = grid._parse_grid(GRID)
    assert passages["gout", "diet"] == grid._Passage("gout", "diet", "Less beer helps.")
    assert queries == [
        grid._Query("big toe hurts", "gout", ("symptoms",)),
        grid._Query("what is gout like", "gout", ("symptoms", "diet")),
        grid._Query("what to eat", "gout", ("diet",)),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# gout\n", "", "line 1: an aspect stands before the first topic"),
        ("## symptoms\n", "", "line 2: text stands before an aspect"),
        ("Less beer helps.\n", "", "line 8: a query stands before the text of gout / diet"),
        ("Less beer helps.\n- what to eat\n", "", "line 7: gout / diet has no text"),
        ("Less beer", "More water.\nLess beer", "line 9: gout / diet has a second text"),
        ("{diet}", "{dyet}", "line 6: gout has no aspect dyet"),
        ("like {diet}", "like {diet} at night", "line 6: braces stand only at the end"),
        ("what to eat", "big toe hurts", "line 9: the query stands already in line 4"),
        (GRID, "", "holds no passages"),
    ],
)
def test_a_broken_grid_is_an_error_with_its_line(old, new, message):
    with pytest.raises(InputError, match=message):
        grid._parse_grid(GRID.replace(old, new, 1))


@pytest.fixture
def folder(tmp_path):
    """A data folder with one small domain of 8 topics."""
    place = tmp_path / "data" / "garden" / "en"
    place.mkdir(parents=True)
    text = "".join(
        f"# plant {i}\n" + "".join(f"## aspect {j}\nText {i} about aspect {j}.\n- question {i} {j}\n" for j in range(3))
        for i in range(8)
    )
    (place / "grid.md").write_text(text)
    return tmp_path / "data"


def run(capsys, *arguments):
    """Run a data command; return (exit code, output, error)."""
    code = main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_new_domain_is_split_once_and_read(folder, capsys):
    with pytest.raises(InputError, match="python -m course_utils data split garden en"):
        grid.read_grid("garden", "en", folder)
    code, out, _ = run(capsys, "split", "garden", "en", "--data", folder)
    path = folder / "garden" / "en" / "splits.json"
    assert code == 0 and "5 train, 1 dev, 2 test topics" in out
    recorded = path.read_bytes()
    assert json.loads(recorded) == grid.make_splits(grid.read_cells("garden", "en", folder))
    code, out, err = run(capsys, "split", "garden", "en", "--data", folder)
    assert code == 2 and "--force" in err and not out
    path.write_text("{}")
    assert run(capsys, "split", "garden", "en", "--data", folder, "--force")[0] == 0
    assert path.read_bytes() == recorded and [p.name for p in path.parent.iterdir() if "part" in p.name] == []
    groups = data.load_domain("garden", "en", "train", folder)
    assert len(groups) == 15 and all(g.relevance.count(1) == 1 for g in groups)


def test_broken_grids_and_splits_are_errors(folder, capsys):
    with pytest.raises(InputError, match=r"There is no .*how to add a domain"):
        grid.read_grid("garden", "zh", folder)
    with pytest.raises(InputError, match="choose one of train, dev, test"):
        data.load_domain("medical", "en", "valid")
    path = folder / "garden" / "en" / "splits.json"
    topics = [f"plant {i}" for i in range(8)]
    for text, message in (
        ("[1]", "not a JSON object of three lists"),
        ("{", "not a JSON object of three lists"),
        (json.dumps({"train": topics[1:]}), 'no split for 1 topics, for example "plant 0"'),
        (json.dumps({"train": topics[1:], "valid": topics[:1]}), "no split for 1 topics"),
        (json.dumps({"train": topics, "test": topics[:1]}), 'names the topic "plant 0" twice'),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            grid.read_grid("garden", "en", folder)
    (folder / "garden" / "en" / "grid.md").write_bytes(b"# caf\xe9\n")
    with pytest.raises(InputError, match="byte 6 is not UTF-8"):
        grid.read_grid("garden", "en", folder)


@pytest.mark.slow
def test_build_writes_the_learners_files(tmp_path, capsys):
    out = tmp_path / "built"
    code, text, err = run(capsys, "build", "--out", out)
    assert code == 0 and not err and len(list(out.iterdir())) == 45 == len(text.splitlines())
    for domain in grid.DOMAINS:
        for name in (f"{domain}_train", f"{domain}_train_en", f"{domain}_train_zh"):
            pairs = data.read_pairs(out / f"{name}.json")
            assert 1000 <= len(pairs) <= 5000
        groups = data.read_groups(out / f"{domain}_train.json")
        chinese = sum(any("\u4e00" <= c <= "\u9fff" for c in g.query) for g in groups)
        assert 0.35 < chinese / len(groups) < 0.65
        assert data.read_groups(out / f"{domain}_test_en.json", max_relevance=2) == [
            data.Group(g.query, g.documents, g.relevance) for g in data.load_domain(domain, "en", "test")
        ]
    row = json.loads((out / "medical_train.json").read_text(encoding="utf-8"))[0]
    assert list(row) == ["query", "document", "relevance"]


@pytest.fixture
def small(folder):
    """A data folder with the eight sets, each of them small."""
    for domain, language in SETS:
        shutil.copytree(folder / "garden" / "en", folder / domain / language)
        main(["data", "split", domain, language, "--data", str(folder)])
    return folder


def test_build_replaces_no_file_that_was_changed(small, tmp_path, capsys):
    build = ["build", "--data", small, "--out", tmp_path]
    assert run(capsys, *build)[0] == 0
    assert run(capsys, *build)[0] == 0  # the same again
    changed = tmp_path / "legal_dev.json"
    changed.write_text("[]")
    code, _, err = run(capsys, *build)
    assert code == 2 and "legal_dev.json exists with other content" in err and changed.read_text() == "[]"
    assert run(capsys, *build, "--force")[0] == 0 and changed.read_text() != "[]"


def test_build_in_one_language_has_plain_names(small, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(capsys, "build", "--out", out, "--language", "zh", "--data", small)[0] == 0
    assert {p.name for p in out.iterdir()} == {f"{d}_{s}.json" for d in grid.DOMAINS for s in grid.SPLITS}
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "build", "--out", tmp_path / "file" / "below", "--data", small)
    assert code == 2 and "cannot be written" in err


def test_the_table_is_put_between_the_marks_of_the_card(small, capsys):
    readme = small / "README.md"
    code, out, err = run(capsys, "table", "--data", small, "--card")
    assert code == 2 and "has no lines" in err and not readme.exists()
    readme.write_text(f"# Card\n{card.TABLE_START}\nold\n{card.TABLE_END}\nend\n")
    code, out, _ = run(capsys, "table", "--data", small, "--card")
    assert code == 0 and "old" not in readme.read_text()
    assert readme.read_text() == f"# Card\n{card.TABLE_START}\n\n{out}\n{card.TABLE_END}\nend\n"


def test_limited_keeps_whole_queries():
    groups = [data.Group(str(i), tuple("abc"), (1, 0, 0)) for i in range(10)]
    assert data_cli.limited(groups, 30) == groups == data_cli.limited(groups, None)
    part = data_cli.limited(groups, 20)
    assert len(part) == 6 and part == sorted(part, key=groups.index) and part == data_cli.limited(groups, 20)


@pytest.mark.slow
def test_check_prints_a_report_and_tells_by_its_exit_code(tmp_path, capsys):
    rows = [{"query": f"q{i // 4}", "document": f"d{i}", "relevance": int(i % 4 == 0)} for i in range(1200)]
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(rows))
    bad.write_text(json.dumps([*rows, rows[0], {"query": "q"}]))
    code, out, err = run(capsys, "check", good, "--max-length", 256)
    assert code == 0 and "1,200 pairs, 300 queries" in out and "nothing is cut" in out and not err
    code, out, err = run(capsys, "check", good, bad)
    assert code == 2 and "Pairs that stand twice: 1" in out and "good.json: 1,200" in out
    assert err == f"error: {bad}: to be mended before use, as said above.\n"
    code, out, err = run(capsys, "check", good, "--test", bad)
    assert code == 2 and not out and err.count("\n") == 1
    code, out, err = run(capsys, "check", good, "--test", good)
    assert code == 2 and "Queries that are in the test file too: 300" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command"),
        (["guess"], "invalid choice"),
        (["check"], "required: FILE"),
        (["check", "no.json"], "There is no file no.json"),
        (["check", "no.json", "--max-length", "many"], "invalid int"),
        (["check", "no.json", "--max-length", "0"], "must be above 0"),
        (["check", "no.json", "--model", "no-such-model"], 'No model "no-such-model"'),
        (["split", "medical", "xx"], "There is no"),
        (["build"], "--out"),
        (["table", "--data", "nowhere"], "There is no nowhere"),
    ],
)
def test_bad_commands_are_one_sentence_and_exit_code_2(arguments, message, capsys):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and not out and message in err and err.count("\n") == 1


@pytest.mark.slow
def test_the_table_stands_in_the_data_card(capsys):
    code, out, _ = run(capsys, "table")
    assert code == 0 and out.count("| medical/zh") == 6  # sizes, lists, overlaps, cases, and two lists of the rule
    assert out.strip() in (grid.DATA / "README.md").read_text(encoding="utf-8")
