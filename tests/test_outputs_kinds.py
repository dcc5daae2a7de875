"""An output takes the place of its own kind alone: no model is lost to an index, no table to a result."""

import json

import pytest
from conftest import tiny_model

from course_utils.cli import main
from course_utils.errors import InputError
from course_utils.files import MARKER, check_ours, check_outputs, whole_folder
from course_utils.model import Reranker

ASKED = [(f"what does ward {n} say on topic{n}", f"topic{n} of ward {n} is answered here") for n in range(40)]


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    return Reranker(tiny_model(tokenizer), tokenizer, max_length=128).save(tmp_path_factory.mktemp("kinds") / "model")


@pytest.fixture
def here(saved, tmp_path, monkeypatch):
    """Go to a folder with a model, a handbook and its questions."""
    monkeypatch.chdir(tmp_path)
    Reranker.load(saved, device="cpu", quiet=True).save("model")
    (tmp_path / "handbook.csv").write_text("id,text\n" + "".join(f"{n},{t}\n" for n, (_, t) in enumerate(ASKED)))
    rows = (json.dumps({"query": q, "document": t, "relevance": 1}) + "\n" for q, t in ASKED)
    (tmp_path / "asked.jsonl").write_text("".join(rows))
    return tmp_path


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


INDEX, PREPARE = "index handbook.csv --out", "data prepare asked.jsonl handbook.csv --out"
EXPORT = "export --model model --device cpu --to"


def run(call, out):
    return main([*call.split(), out])


@pytest.mark.parametrize("call", [INDEX, PREPARE, f"{EXPORT} causal --out", f"{EXPORT} one-label --out"])
def test_a_model_is_never_replaced_by_another_kind(here, capsys, call):
    Reranker.load("model", device="cpu", quiet=True).save("kept")
    before = content(here / "kept")
    assert run(call, "kept") == 2
    said = capsys.readouterr().err
    assert "kept holds another kind of output (reranker.json), which would be lost" in said
    assert content(here / "kept") == before


def test_a_command_replaces_what_it_wrote_and_nothing_of_another(here, capsys):
    calls = {"i": INDEX, "p": PREPARE, "c": f"{EXPORT} causal --out"}
    for out, call in calls.items():
        assert (run(call, out), run(call, out)) == (0, 0)
    before = {out: content(here / out) for out in calls}
    capsys.readouterr()
    for out in calls:
        for other, call in calls.items():
            if other != out:
                assert run(call, out) == 2
                assert f"{out} holds another kind of output" in capsys.readouterr().err
        with pytest.raises(InputError, match="another kind of output"):  # from Python, too
            Reranker.load("model", device="cpu", quiet=True).save(out)
    assert {out: content(here / out) for out in calls} == before


def test_another_kind_is_refused_before_the_work(here, monkeypatch):
    def never(*_, **__):
        raise AssertionError("work was done")

    for name in ("ship.build_index", "ship.export_causal_lm", "data.prepare", "cli.options.load", "domains.load_delta"):
        monkeypatch.setattr(f"course_utils.{name}", never)
    assert run(INDEX, "model") == run(PREPARE, "model") == 2
    with whole_folder("index") as folder:
        (folder / "index.json").write_text("{}")
    delta = ["delta make --model model --adapted model --out", "delta apply --model model --delta model --out"]
    for call in (f"{EXPORT} causal --out", *delta, "versions store --model model --out"):
        assert run(call, "index") == 2
    with whole_folder("a/model") as folder:
        (folder / "index.json").write_text("{}")
    assert run("adapt --model model --train asked.jsonl --test asked.jsonl --json r.json --out", "a") == 2


def test_folders_of_earlier_versions_keep_their_kind(here):
    (here / "model" / MARKER).unlink()
    model = Reranker.load("model", device="cpu", quiet=True)
    with pytest.raises(InputError, match="another kind"):
        check_ours("model", ["index.json"])
    (here / "kept").mkdir()
    for name, text in content(here / "model").items():
        (here / "kept" / name).write_bytes(text)
    model.save("kept")
    (here / "empty").mkdir()
    check_ours("empty", ["index.json"])
    check_ours("nowhere", ["index.json"])


def test_what_has_no_sign_is_not_replaced_by_what_has_one(tmp_path):
    for name in ("words.npy", "other.npy"):
        with whole_folder(tmp_path / "own") as folder:
            (folder / name).write_text("x")
    with pytest.raises(InputError, match=r"another kind of output \(other\.npy\)"), whole_folder(tmp_path / "own") as folder:  # fmt: skip
        (folder / "delta.json").write_text("{}")
    assert (tmp_path / "own" / "other.npy").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize("name", ["book.csv", "notes.docx", "x.TSV", "notes.md", "run.py", "page.html", "thesis"])
@pytest.mark.parametrize(
    "call",
    [
        "search fever --index index --model model --json",
        "evaluate --data asked.jsonl --model model --per-query",
        "rank --query fever --documents handbook.csv --model model --json",
        "data prepare asked.jsonl handbook.csv --out own --json",
    ],
)
def test_a_file_of_another_kind_is_never_replaced(tmp_path, monkeypatch, capsys, call, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("years of work")
    assert run(call, name) == 2
    assert f"{name} exists and would be lost; choose another name, which ends in .json" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "years of work"


def test_what_is_written_may_be_written_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("r.json", "r.JSONL", "index.html", "scores.txt"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "link.txt").symlink_to("r.json")
    check_outputs(["r.json", "r.JSONL", "empty.txt", "new.txt", "-", "/dev/null"])
    check_outputs(["link.txt"])
    check_outputs(["index.html"], ends=(".html",))
    check_outputs(["scores.txt"], ends=())
    (tmp_path / "r2.json").symlink_to("scores.txt")
    with pytest.raises(InputError, match="would be lost"):
        check_outputs(["r2.json"])


def test_scores_go_on_in_a_file_of_any_name(here):
    call = "score --model model --device cpu --pairs asked.jsonl --out"
    assert (run(call, "scores.txt"), run(call, "scores.txt")) == (0, 0)
    assert run(call, "handbook.csv") == 2
    assert (here / "handbook.csv").read_text().startswith("id,text")


@pytest.mark.parametrize("name", ["handbook.json", "pairs.jsonl", "package.json"])
def test_a_result_replaces_results_alone(here, capsys, name):
    call = "rank --query fever --documents handbook.csv --model model --device cpu --json"
    own = {"package.json": '{"name": "mine"}', "pairs.jsonl": '{"run": 1}\n{"run": 2}\n'}.get(name, "[1]")
    (here / name).write_text(own)
    assert run(call, name) == 2
    assert f"--json {name} is there and holds no result of an earlier run" in capsys.readouterr().err
    assert (here / name).read_text() == own
    for own, out in ((call, "r.json"), (f"{PREPARE} own --json", "p.json")):
        assert (run(own, out), run(own, out)) == (0, 0)


def test_what_will_be_replaced_is_said(here, capsys):
    assert run(INDEX, "own.index") == 0
    assert "replaced" not in capsys.readouterr().err
    assert run(INDEX, "own.index") == 0
    assert "own.index: what an earlier run wrote there will be replaced" in capsys.readouterr().err
