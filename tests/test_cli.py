"""The fixed forms of the command line, as a person would call them."""

import gc
import json
import subprocess
import sys

import pytest
from conftest import ROOT, make_groups

from course_utils.cli import adapt as adapt_command
from course_utils.cli import course as course_command
from course_utils.cli import reading
from course_utils.cli.parser import build_parser, main
from course_utils.errors import InputError
from course_utils.training.recipe import Recipe

METRICS = {"ndcg@10", "mrr@10", "map", "accuracy", "f1"}


def write(path, groups):
    rows = [
        {"query": g.query, "document": d, "relevance": r}
        for g in groups
        for d, r in zip(g.documents, g.relevance, strict=True)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path):
    groups = make_groups(30)
    return {
        "train": write(tmp_path / "train.json", groups[:16]),
        "test": write(tmp_path / "test.json", groups[16:24]),
        "general": write(tmp_path / "general.json", groups[24:]),
    }


def test_adapt_writes_everything_that_was_promised(files, tmp_path, capsys):
    result = tmp_path / "deep" / "result.json"
    code = main(
        ["adapt", "--model", "nano", "--train", files["train"], "--test", files["test"], "--general", files["general"],
         "--layers", "1", "--epochs", "1", "--max-queries", "12", "--seed", "4", "--no-replay",
         "--out", str(tmp_path / "out"), "--json", str(result)]
    )  # fmt: skip
    assert code == 0, capsys.readouterr()
    found = json.loads(result.read_text())
    for part in ("before", "after", "general_before", "general_after"):
        assert set(found[part]) >= METRICS
    assert found["low"] <= found["delta_ndcg@10"] <= found["high"]
    assert found["delta_ndcg@10"] == pytest.approx(found["after"]["ndcg@10"] - found["before"]["ndcg@10"])
    rule = found["rule"]
    assert rule["above"]["mean"] == pytest.approx(found["after"]["ndcg@10"] - rule["base_and_rule"])
    assert 0 < rule["random"] < 1 and 0 < rule["document_alone"] <= 1
    assert "without reading the query, random order" in capsys.readouterr().out
    assert found["seconds"] > 0
    assert found["peak_memory_mb"] > 50
    assert 0 < found["trainable_parameters"] < found["total_parameters"]
    again = tmp_path / "again.json"
    assert (
        main(["evaluate", "--model", str(tmp_path / "out" / "model"), "--data", files["test"], "--json", str(again)])
        == 0
    )
    after = json.loads(again.read_text())
    assert set(after) >= METRICS
    assert after["ndcg@10"] == pytest.approx(found["after"]["ndcg@10"], abs=1e-6)


def test_the_dev_file_chooses_the_epoch(files, tmp_path):
    result, measured = tmp_path / "result.json", tmp_path / "dev.json"
    own = ["adapt", "--train", files["train"], "--dev", files["general"], "--test", files["test"], "--layers", "1",
           "--epochs", "1", "--no-replay", "--out", str(tmp_path / "out"), "--json", str(result)]  # fmt: skip
    assert main(own) == 0
    assert main(["evaluate", "--data", files["general"], "--json", str(measured)]) == 0
    start = json.loads(result.read_text())["history"][0]["ndcg@10"]
    assert start == pytest.approx(json.loads(measured.read_text())["ndcg@10"], abs=1e-6)


def test_layers_takes_a_number_or_all(files, tmp_path, capsys):
    own = ["adapt", "--train", files["train"], "--test", files["test"], "--max-queries", "8", "--estimate", "--no-replay",
           "--out", str(tmp_path / "out"), "--json", str(tmp_path / "r.json"), "--layers"]  # fmt: skip
    assert main([*own, "all"]) == 0
    assert main([*own, "3"]) == 0
    assert "disk" in capsys.readouterr().out
    assert main([*own, "most"]) == 2
    assert "whole number or all" in capsys.readouterr().err


def test_keep_says_which_weights_are_saved_and_how_they_do_on_dev(files, tmp_path, capsys):
    result, measured, found = tmp_path / "result.json", tmp_path / "dev.json", {}
    own = ["adapt", "--train", files["train"], "--dev", files["general"], "--test", files["test"], "--layers", "1",
           "--epochs", "1", "--no-replay", "--json", str(result)]  # fmt: skip
    for keep in ("auto", "last", "halfway"):
        out = tmp_path / keep
        assert main([*own, "--keep", keep, "--out", str(out)]) == 0
        assert ("half of the way to epoch 1 kept" in capsys.readouterr().out.replace("\n", " ")) == (keep == "halfway")
        kept = json.loads(result.read_text())["kept"]
        assert (
            main(["evaluate", "--model", str(out / "model"), "--data", files["general"], "--json", str(measured)]) == 0
        )
        assert kept["keep"] == {"auto": "best"}.get(keep, keep)
        assert kept["ndcg@10"] == pytest.approx(json.loads(measured.read_text())["ndcg@10"], abs=1e-6)
        found[keep] = kept["dev_loss"]
    assert found["last"] != found["halfway"]


@pytest.mark.slow
def test_rank_reads_standard_input_and_writes_json(tmp_path):
    result = tmp_path / "r.json"
    run = subprocess.run(
        [sys.executable, "-m", "course_utils", "rank", "--query", "糖尿病治疗方案", "--documents", "-", "--json", str(result)],
        input="糖尿病胰岛素治疗指南\n高血压药物选择\n\n糖尿病饮食管理\n", text=True, capture_output=True, cwd=ROOT, check=False,
        encoding="utf-8",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    ranking = json.loads(result.read_text(encoding="utf-8"))["ranking"]
    assert len(ranking) == 3
    scores = [r["score"] for r in ranking]
    assert scores == sorted(scores, reverse=True)
    assert run.stdout.count("\n") == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rank", "--query", "q", "--documents", "nowhere.txt"], "There is no file"),
        (["rank", "--query", " ", "--documents", "DOCS"], "query is empty"),
        (["rank", "--model", "no/such/model/here", "--query", "q", "--documents", "DOCS"], "There is no folder"),
        (["evaluate", "--data", "nowhere.json", "--json", "OUT"], "There is no file"),
        (["evaluate", "--data", "BROKEN", "--json", "OUT"], "broken JSON"),
        (["adapt", "--train", "TRAIN", "--test", "TRAIN", "--out", "DIR", "--json", "OUT"], "share 16 queries"),
        (
            ["adapt", "--train", "TRAIN", "--dev", "TEST", "--test", "TEST", "--out", "DIR", "--json", "OUT"],
            "share 8 queries",
        ),
        (
            ["adapt", "--train", "TRAIN", "--test", "TEST", "--layers", "99", "--out", "DIR", "--json", "OUT"],
            "from 1 to",
        ),
        (["adapt", "--train", "TRAIN", "--test", "TEST", "--epochs", "0", "--out", "DIR", "--json", "OUT"], "epochs"),
        (
            ["adapt", "--train", "TRAIN", "--test", "TEST", "--negatives", "0", "--out", "DIR", "--json", "OUT"],
            "negatives",
        ),
        (
            ["adapt", "--train", "TRAIN", "--test", "TEST", "--max-queries", "1", "--out", "DIR", "--json", "OUT"],
            "at least 4",
        ),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(files, tmp_path, capsys, arguments, words):
    (tmp_path / "docs.txt").write_text("a\nb\n")
    (tmp_path / "broken.json").write_text('[{"query": "q", ')
    places = {
        "DOCS": tmp_path / "docs.txt", "BROKEN": tmp_path / "broken.json", "OUT": tmp_path / "out.json",
        "DIR": tmp_path / "out", "TRAIN": files["train"], "TEST": files["test"],
    }  # fmt: skip
    assert main([str(places.get(a, a)) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_doctor_says_all_is_well(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "all well" in out
    assert "torch" in out


def test_the_command_line_and_adapt_have_the_same_defaults():
    # The parser repeats them, since importing training takes seconds that --help should not cost.
    arguments = ["adapt", "--train", "T", "--test", "E", "--out", "D", "--json", "R"]
    given = build_parser().parse_args(arguments)
    made = adapt_command._recipe(given)
    assert (adapt_command.DEFAULT_EPOCHS, made.epochs, made.negatives, made.keep) == (
        Recipe.epochs, Recipe.epochs, Recipe.negatives, Recipe.keep,
    )  # fmt: skip


@pytest.mark.parametrize(("domain", "language"), [("medical", "en"), ("legal", "zh")])
def test_adapt_can_read_the_lists_that_the_course_measures(tmp_path, monkeypatch, domain, language):
    commands = []

    def stopped(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 2, "", "stopped here")

    monkeypatch.setattr(course_command.subprocess, "run", stopped)
    with pytest.raises(InputError, match="stopped here"):
        course_command.measure_trade(domain, language, tmp_path, {"train": 24, "test": 30}, {})
    args = build_parser().parse_args(commands[0][3:])
    for path in (args.train, args.dev, args.test, args.general):
        assert reading.read(args, path)


def test_the_garbage_collector_is_left_as_it_was_and_searches_no_import_again():
    from course_utils import _unsearched

    stays = []
    for before in (gc.enable, gc.disable):
        before()
        kept = gc.get_freeze_count()
        with pytest.raises(ValueError), _unsearched():
            assert not gc.isenabled()
            stays.append([[] for _ in range(1000)])
            raise ValueError
        assert gc.isenabled() is (before is gc.enable)
        assert gc.get_freeze_count() >= kept + 1000
    gc.enable()
    kept = gc.get_freeze_count()
    with _unsearched(unless="json"):  # loaded long ago
        assert gc.isenabled()
    assert gc.get_freeze_count() <= kept
