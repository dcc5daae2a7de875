"""The commands export, score, index, search and serve."""

import json

import pytest

from course_utils.cli import main
from course_utils.files import lock


@pytest.fixture
def handbook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "fever.md").write_text("# Fever\n\nGive the child small sips of water.", encoding="utf-8")
    (folder / "饮食.txt").write_text("高血压患者每天的盐不超过五克。", encoding="utf-8")
    return folder


def test_a_folder_is_indexed_and_searched(handbook, capsys):
    assert main(["index", "handbook", "--out", "index"]) == 0
    assert "2 passages in index" in capsys.readouterr().out
    assert main(["search", "每天的盐", "--index", "index", "--device", "cpu", "--json", "found.json"]) == 0
    found = json.loads((handbook.parent / "found.json").read_text(encoding="utf-8"))
    assert found["hits"][0]["document"] == "饮食.txt" and found["run"]["model"]["name"] == "nano"
    assert main(["search", "zebra", "--index", "index", "--device", "cpu"]) == 0
    assert "Nothing found" in capsys.readouterr().out


def test_what_leads_nowhere_and_what_this_program_wrote_is_left_out_and_counted(handbook, capsys):
    (handbook / "old.md").symlink_to("gone.md")
    assert main(["index", "handbook", "--out", "handbook/idx"]) == 0
    said = capsys.readouterr().out
    assert "1 broken links not read" in said and "this program wrote" not in said
    (handbook / "idx" / "bm25" / "deeper").mkdir()
    for _ in range(2):
        assert main(["index", "handbook", "--out", "index"]) == 0
        said = capsys.readouterr().out
        assert "2 passages in index" in said and "1 folders that this program wrote not read" in said
    (handbook / "idx" / "bm25" / "deeper").rmdir()
    assert main(["index", "handbook", "--out", "handbook/idx"]) == 0 and "2 passages" in capsys.readouterr().out


def test_pairs_are_scored_and_a_second_call_has_nothing_to_do(handbook, capsys):
    rows = [{"query": "fever", "document": f"a page about fever {i}"} for i in range(5)]
    (handbook.parent / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    for expected in ("5 pairs", "0 pairs"):
        assert main(["score", "--pairs", "pairs.jsonl", "--out", "scores.jsonl", "--device", "cpu"]) == 0
        assert f"{expected} scored now" in capsys.readouterr().out
    assert len((handbook.parent / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 5


def test_a_second_run_into_the_same_scores_is_refused(handbook, capsys):
    (handbook.parent / "pairs.jsonl").write_text('{"query": "q", "document": "d"}\n', encoding="utf-8")
    call = ["score", "--pairs", "pairs.jsonl", "--out", "scores.jsonl", "--device", "cpu"]
    with lock("scores.jsonl", beside=True):
        assert main(call) == 2 and "Another run is writing to scores.jsonl" in capsys.readouterr().err
    assert sorted(p.name for p in handbook.parent.iterdir()) == ["handbook", "pairs.jsonl"]
    assert main(call) == 0
    names = {"handbook", "pairs.jsonl", "scores.jsonl", "scores.jsonl.about.json"}
    assert {p.name for p in handbook.parent.iterdir()} == names


def test_a_model_is_exported(handbook):
    assert main(["export", "--to", "causal", "--out", "out", "--device", "cpu"]) == 0
    assert (handbook.parent / "out" / "chat_template.jinja").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["index", "nowhere", "--out", "index"], "no file or folder"),
        (["index", "handbook", "--out", "handbook"], "would be written over"),
        (["search", " ", "--index", "index"], "QUESTION is empty"),
        (["search", "fever", "--index", "handbook"], "no search index"),
        (["search", "fever", "--index", "index", "--top-k", "0"], "must be above 0"),
        (["score", "--pairs", "pairs.jsonl", "--out", "pairs.jsonl"], "would be written over"),
        (["score", "--pairs", "pairs.jsonl", "--out", "-"], "give a file name"),
        (["score", "--pairs", "pairs.jsonl", "--out", "/dev/null"], "give a file name"),
        (["export", "--to", "causal", "--out", "handbook"], "not written by this program"),
        (["export", "--to", "paper", "--out", "out"], "invalid choice"),
        (["serve", "--device", "cpu", "--port", "99999"], "cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(handbook, capsys, arguments, words):
    (handbook.parent / "pairs.jsonl").write_text('{"query": "q", "document": "d"}\n', encoding="utf-8")
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert (handbook / "fever.md").is_file() and (handbook.parent / "pairs.jsonl").stat().st_size > 10
