"""A reader's own files through adapt, evaluate, data check, rank, delta, gate and rollback."""

import json
import random
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import tiny_model
from failures import make_world, rows

from course_utils import data
from course_utils.cli import main
from course_utils.data import Group, read_data, read_passages
from course_utils.data.long_documents import _best_pieces
from course_utils.errors import InputError
from course_utils.model import Reranker
from course_utils.model.prompt import _encode_groups
from course_utils.training import Recipe, adapt
from course_utils.training.batch import Source
from course_utils.training.losses import _both, _find_loss, _graded, _teacher, _teacher_logits


@pytest.fixture(scope="module")
def template(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="tiny").save(folder / "tiny")
    make_world(folder / "world", folder / "tiny")
    return folder / "world"


@pytest.fixture
def world(template, tmp_path, monkeypatch):
    shutil.copytree(template, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def lists(start, count):
    """Return the rows of ``rows`` as FlagEmbedding lists."""
    out = {}
    for r in rows(start, count):
        own = out.setdefault(r["query"], {"query": r["query"], "pos": [], "neg": []})
        own["pos" if r["relevance"] else "neg"].append(r["document"])
    return list(out.values())


def lines(path, records):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def test_adapt_evaluate_and_check_take_any_shape_and_say_what_they_took(world, capsys):
    lines(world / "train.jsonl", lists(0, 8))
    table = "".join(f"{r['query']};{r['document']};{r['relevance']}\n" for r in rows(8, 6))
    (world / "test.csv").write_text("Question;Paragraph;Label\n" + table, encoding="cp1252")
    assert main(["data", "check", "train.jsonl", "--test", "test.csv", "--model", "model"]) == 0
    said = capsys.readouterr()
    assert "train.jsonl: 32 pairs" in said.out.replace("rows", "pairs") or "train.jsonl" in said.out
    assert "(query, pos, neg)" in said.err and "separated by semicolon" in said.err
    assert main(["adapt", "--model", "model", "--train", "train.jsonl", "--test", "test.csv", "--layers", "1", "--epochs", "1", "--no-replay", "--out", "out", "--json", "r.json"]) == 0  # fmt: skip
    found = json.loads((world / "r.json").read_text())
    assert (
        found["train_queries"] == 7
        and found["dev_queries"] == 1
        and found["test_queries"] == 6
        and found["run"]["recipe"]["loss"] == "both"
    )
    capsys.readouterr()
    assert main(["evaluate", "--model", "model", "--data", "test.csv", "--columns", "query=Question,document=Paragraph", "--json", "e.json"]) == 0  # fmt: skip
    assert json.loads((world / "e.json").read_text())["ndcg@10"] == found["before"]["ndcg@10"]
    assert "(Question, Paragraph, Label)" in capsys.readouterr().err
    assert main(["evaluate", "--model", "model", "--data", "test.csv", "--rule", "train.jsonl", "--bm25", "--json", "e.json"]) == 0  # fmt: skip
    assert "document alone" in capsys.readouterr().out
    rule = json.loads((world / "e.json").read_text())["models"][2]
    assert rule["metrics"]["ndcg@10"] == found["rule"]["document_alone"] and "f1" not in rule["metrics"]
    lines(world / "one.jsonl", [r for r in rows(30, 4) if r["relevance"]])
    assert main(["evaluate", "--model", "model", "--data", "test.csv", "--rule", "one.jsonl"]) == 2
    assert "no list with a right and a wrong document" in capsys.readouterr().err
    assert main(["evaluate", "--model", "model", "--data", "test.csv", "--rule", "test.csv"]) == 2
    assert "share" in capsys.readouterr().err
    assert main(["evaluate", "--model", "model", "--data", "test.csv", "--columns", "query=Frage"]) == 2
    assert 'No column is named "Frage"' in capsys.readouterr().err


def test_rank_reads_lines_of_another_encoding(world, capsys):
    (world / "gbk.txt").write_bytes("发热要看医生\n租金每月交\n".encode("gb18030"))
    call = ["rank", "--model", "model", "--query", "发热", "--documents", "gbk.txt"]
    assert main(call) == 2 and "is not UTF-8" in capsys.readouterr().err
    assert main([*call, "--encoding", "gb18030"]) == 0 and "租金每月交" in capsys.readouterr().out
    assert main([*call, "--sheet", "A"]) == 2 and "--sheet is for tables" in capsys.readouterr().err


def test_plain_files_keep_their_strict_rules_and_grades_are_named(world, capsys):
    (world / "g.json").write_text(json.dumps([{**r, "relevance": 3 * r["relevance"]} for r in rows(8, 6)]))
    assert main(["evaluate", "--model", "model", "--data", "g.json"]) == 2
    assert "give the highest: --max-relevance 3." in capsys.readouterr().err
    assert main(["data", "check", "g.json", "--model", "model"]) == 2
    assert "If the labels are grades, say so with --max-relevance 3" in capsys.readouterr().out
    assert main(["evaluate", "--model", "model", "--data", "g.json", "--max-relevance", "3"]) == 0
    lines(world / "half.jsonl", [{**r, "relevance": 0.87 if r["relevance"] else 0.1} for r in rows(8, 6)])
    assert main(["evaluate", "--model", "model", "--data", "half.jsonl"]) == 0
    assert "0.5 and more counts" in capsys.readouterr().err


def test_rank_takes_a_table_a_folder_and_lists(world, capsys):
    (world / "pages.csv").write_text("No.,Paragraph\n1,a page about fever\n2,a page about rent\n", encoding="utf-8-sig")
    (world / "notes").mkdir()
    (world / "notes" / "a.md").write_text("# fever\n\nsmall sips", encoding="utf-8")
    lines(world / "lists.jsonl", lists(0, 2))
    for name, count in (("pages.csv", 2), ("notes", 1), ("lists.jsonl", 8)):
        assert main(["rank", "--model", "model", "--query", "fever", "--documents", name, "--json", "r.json"]) == 0
        assert len(json.loads((world / "r.json").read_text())["ranking"]) <= count
    assert (
        main(
            [
                "rank",
                "--model",
                "model",
                "--query",
                "fever",
                "--documents",
                "pages.csv",
                "--columns",
                "document=Paragraph",
            ]
        )
        == 0
    )
    assert (
        main(
            [
                "rank",
                "--model",
                "model",
                "--query",
                "fever",
                "--documents",
                "docs.txt",
                "--columns",
                "document=Paragraph",
            ]
        )
        == 2
    )


def test_models_and_bm25_stand_side_by_side(world, tokenizer, capsys):
    Reranker(tiny_model(tokenizer, layers=2, seed=1), tokenizer, max_length=256).save(world / "other")
    call = "evaluate --model model --model other --bm25 --data data.json --worst 2 --per-query q.jsonl --json -"
    assert main(call.split()) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [m["model"] for m in found["models"]] == ["model", "other", "BM25"]
    first, other, bm25 = found["models"]
    assert found["ndcg@10"] == first["metrics"]["ndcg@10"] and first["low"] <= found["ndcg@10"] <= first["high"]
    assert "difference" not in first and "accuracy" not in bm25["metrics"]
    gap = other["metrics"]["ndcg@10"] - first["metrics"]["ndcg@10"]
    assert other["difference"]["mean"] == pytest.approx(gap) and other["difference"]["low"] <= gap
    assert "ndcg@10 - that of model" in said.err and len(found["worst"]) == 2
    queries = [json.loads(line) for line in (world / "q.jsonl").read_text().splitlines()]
    assert len(queries) == found["queries"] == 6
    for name, row in zip(("model", "other", "BM25"), found["models"], strict=True):
        assert np.mean([q["ndcg@10"][name] for q in queries]) == pytest.approx(row["metrics"]["ndcg@10"])
    assert min(q["ndcg@10"]["model"] for q in queries) == pytest.approx(found["worst"][0]["ndcg@10"])
    assert main(["evaluate", "--model", "model", "model", "--data", "data.json"]) == 2
    assert main(["evaluate", "--model", "model", "other", "--data", "data.json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3  # the table alone


def test_data_check_ends_with_a_verdict_that_agrees_with_what_it_found(world, capsys):
    def checked(lists):
        (world / "lists.json").write_text(
            json.dumps([dict(zip(("query", "document", "relevance"), r, strict=True)) for r in lists])
        )
        assert main(["data", "check", "lists.json", "--model", "model"]) == 0
        return capsys.readouterr().out.strip().split("\n")

    words = ["salt", "lamp", "boat", "rope", "tree", "coin", "milk", "sand"]
    text = [" ".join(words[n // 8**k % 8] for k in range(4)) for n in range(0, 4096, 3)]
    marked = [
        (f"query {i}", text[5 * i + j] + ("." if j == 0 else "?"), int(j == 0)) for i in range(250) for j in range(5)
    ]
    *above, verdict = checked(marked)
    assert "- Documents betray their label; hundredths of nDCG@10" in above[-1] and "random order" in above[-1]
    assert "Nothing must be mended; look at what stands above" in verdict
    shared = [(f"query {i}", text[(i + j) % 60], int(j == 0)) for i in range(60) for j in range(10)]
    shared += [(f"other {i}", text[60 + (i + j) % 240], int(j == 0)) for i in range(240) for j in range(4)]
    said = checked(shared)
    assert said[-1] == "Nothing suspicious: go ahead." and not any("betray their label;" in line for line in said)
    assert any("does worse than random order, as happens where documents are right for one query" in s for s in said), (
        said
    )
    (world / "half.json").write_text(json.dumps([*rows(0, 2), {"query": "q", "document": "d", "relevance": None}]))
    assert main(["data", "check", "half.json", "--model", "model"]) == 2
    assert "is tried once every row can be used" in capsys.readouterr().out


def labelled(queries=40):
    """Return rows of a file of labelled pairs: right documents of one query stand in the lists of others."""
    words = ["salt", "lamp", "boat", "rope", "tree", "coin", "milk", "sand"]
    text = [" ".join(words[n * 37 // 8**k % 8] for k in range(8)) + f" {n}" for n in range(queries)]
    return [
        {"query": f"what of {i}", "document": text[(i + j) % queries], "relevance": 2 * (j == 0)}
        for i in range(queries)
        for j in range(6)
    ]


def test_a_file_is_split_and_what_that_took_is_said(world, capsys):
    own = [{**r, "instruction": "Find it.", "score": 0.5 + r["relevance"] / 5} for r in labelled()]
    own += [{"query": "no right one", "document": "none", "relevance": 0, "instruction": "", "score": 0.1}]
    own += [{"query": "WHAT of 3", "document": r["document"], "relevance": r["relevance"], "instruction": "", "score": 0.2}
            for r in own[18:24]]  # fmt: skip
    lines(world / "pairs.jsonl", own)
    assert main(["data", "split", "pairs.jsonl", "--out", "lists"]) == 0
    said = capsys.readouterr().out
    parts = {part: read_data(f"lists/{part}.jsonl").groups for part in ("train", "dev", "test")}
    kept = sum(len(g.documents) for p in parts.values() for g in p)
    for name, part in parts.items():
        assert f"{name}.jsonl: {len(part)} queries, {sum(len(g.documents) for g in part)} documents" in said
        assert {r for g in part for r in g.relevance} == {0, 2} and all(g.scores for g in part)
    assert {g.instruction for g in parts["train"]} >= {"Find it."}
    assert (
        sum(map(len, parts.values())) == 41
        and "1 queries are in no part: 1 have no right or no wrong document, 0" in said
    )
    assert f"{len(own) - 1 - kept} wrong documents left lists of train or dev" in said and len(own) - 1 > kept
    found = [data.leaks(parts[a], parts[b]) for a, b in (("train", "test"), ("train", "dev"), ("dev", "test"))]
    assert not any(f.queries or f.documents or f.answers or f.near_answers for f in found)
    assert 25 <= len(parts["train"]) <= 31 and len(parts["test"]) >= 6
    command = said.strip().rpartition("python -m course_utils ")[2].split()
    assert command[0] == "adapt" and "--max-relevance 2" in " ".join(command)
    assert main([*command, "--model", "model", "--layers", "1", "--epochs", "1", "--no-replay"]) == 0
    texts = [(world / "lists" / f"{part}.jsonl").read_bytes() for part in parts]
    assert main(["data", "split", "pairs.jsonl", "--out", "lists"]) == 0  # what it wrote it may write again
    assert texts == [(world / "lists" / f"{part}.jsonl").read_bytes() for part in parts]
    assert main(["data", "split", "pairs.jsonl", "--out", "lists", "--seed", "1", "--fractions", "0.8,0.2"]) == 0
    assert sorted(p.name for p in (world / "lists").glob("*.jsonl")) == ["test.jsonl", "train.jsonl"]
    assert (world / "lists" / "test.jsonl").read_bytes() != texts[2]
    (world / "lists" / "test.jsonl").write_bytes(texts[2])  # somebody read it and mended it
    capsys.readouterr()
    assert main(["data", "split", "pairs.jsonl", "--out", "lists"]) == 2
    assert "test.jsonl was changed since this program wrote it" in capsys.readouterr().err
    assert (world / "lists" / "test.jsonl").read_bytes() == texts[2]


def test_near_copies_of_a_right_document_stay_in_one_part_and_short_parts_are_told(world, capsys):
    own = labelled(12)
    for r in own:
        if r["relevance"] and int(r["query"].split()[-1]) < 10:  # one text, a word changed
            r["document"] = (
                "the ward opens at eight in the morning and visitors leave by nine " + r["query"].split()[-1]
            )
    lines(world / "pairs.jsonl", own)
    assert main(["data", "split", "pairs.jsonl", "--out", "lists", "--fractions", "0.5,0.5"]) == 0
    test = {g.query for g in read_data("lists/test.jsonl").groups}
    train = {g.query for g in read_data("lists/train.jsonl").groups}
    copies = {f"what of {i}" for i in range(10)}
    assert copies & (train | test) and not (copies & train and copies & test)
    assert "fewer than half of the queries asked for" in capsys.readouterr().out


SPLIT = {
    "a file that is not ours": ("data split pairs.json --out mine", "mine holds train.jsonl, which was not written by this program"),
    "a model": ("data split pairs.json --out model", "model holds another kind of output"),
    "the folder of the file": ("data split pairs.json --out .", "would be written over pairs.json"),
    "no folder": ("data split pairs.json", "Name the folder to write to: data split pairs.json --out FOLDER"),
    "a domain alone": ("data split medical", "say in which language: data split medical en"),
    "a folder for the course's data": ("data split medical en --out o", "take no --out"),
    "the course's data for a file": ("data split pairs.json --out o --data d", "--force and --data are for the course's data"),
    "shares that are none": ("data split pairs.json --out o --fractions 1,2", '--fractions is "1,2"'),
    "a share that is no number": ("data split pairs.json --out o --fractions 0.5,nan,0.5", "three shares above 0"),
    "too few for dev": ("data split click.json --out o", "Or leave dev out: --fractions 0.8,0.2"),
    "a share of nothing": ("data split pairs.json --out o --fractions 0.5,0,0.5", "three shares above 0"),
    "pairs that stand twice": ("data split twice.json --out o", "--drop-repeated keeps one of each; where they differ, the right one"),
    "no wrong document": ("data split right.json --out o", "Add wrong documents with data prepare"),
    "no such file": ("data split nowhere.json --out o", "nowhere.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPLIT)
def test_what_cannot_be_split_is_refused_and_nothing_is_written(world, capsys, name):
    (world / "pairs.json").write_text(json.dumps(labelled(12)))
    (world / "twice.json").write_text(json.dumps(labelled(12) + labelled(1)))
    same = [{**r, "document": f"{i % 2}"} if r["relevance"] else r for i, r in enumerate(labelled(12))]
    (world / "click.json").write_text(json.dumps(same))  # two right answers for all
    (world / "right.json").write_text(json.dumps([r for r in labelled(12) if r["relevance"]]))
    (world / "mine").mkdir()
    (world / "mine" / "train.jsonl").write_text("years of labels")
    before = {p: p.read_bytes() for p in world.rglob("*") if p.is_file()}
    command, message = SPLIT[name]
    assert main(command.split()) == 2
    assert re.search(message, capsys.readouterr().err)
    assert {p: p.read_bytes() for p in world.rglob("*") if p.is_file()} == before


def test_delta_gate_and_rollback(world, capsys):
    model = Reranker.load(world / "model", device="cpu", quiet=True)
    with torch.no_grad():
        for p in model.model.model.layers[-1].parameters():
            p.add_(0.01)
    model.save(world / "adapted")
    assert (
        main(
            [
                "delta",
                "make",
                "--model",
                "model",
                "--adapted",
                "adapted",
                "--name",
                "trade",
                "--out",
                "d",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert main(["delta", "apply", "--model", "model", "--delta", "d", "--out", "again", "--device", "cpu"]) == 0
    same = [Reranker.load(world / n, device="cpu", quiet=True).model.state_dict() for n in ("adapted", "again")]
    assert all(torch.equal(same[0][k], same[1][k]) for k in same[0])
    assert (
        main(
            [
                "delta",
                "make",
                "--model",
                "model",
                "--adapted",
                "model",
                "--name",
                "trade",
                "--out",
                "e",
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    call = "gate v --model model --candidate adapted --target test.json --guard general=general.json --layers 1 --device cpu"
    assert main(call.split()) == 2 and "at least 30" in capsys.readouterr().err
    code = main(f"{call} --least 5 --margin 1 --json g.json --train train.json".split())
    found = json.loads((world / "g.json").read_text())
    assert code == int(not found["accepted"]) and set(found["figures"]) == {"target", "general"}
    assert any("never reads the query" in w for w in found["run"]["warnings"]), (
        "right documents end on words of their own"
    )
    assert main(f"{call} --least 5 --train test.json".split()) == 2  # it learned what measures it
    assert main(["versions", "v"]) == 0 and "v0001" in capsys.readouterr().out
    if not found["accepted"]:
        assert main(["rollback", "v"]) == 2
    capsys.readouterr()
    assert main(["rank", "--model", "v", "--query", "fever", "--documents", "docs.txt"]) == 2
    said = capsys.readouterr().err
    assert "v is a folder of versions" in said
    command = said.strip().rpartition("python -m course_utils ")[2].replace("FOLDER", "used").split()
    assert main([*command, "--device", "cpu"]) == 2 and "load that base first (--model)" in capsys.readouterr().err
    now = (world / "v" / "current").read_text()
    assert main([*command, "--device", "cpu", "--model", "model"]) == 0 and (world / "v" / "current").read_text() == now
    assert main(["rank", "--model", "used", "--query", "fever", "--documents", "docs.txt"]) == 0
    assert main([*call.replace("--layers 1", "--layers 0").split(), "--least", "5"]) == 2


def test_an_accepted_candidate_is_in_use_and_rolled_back(tokenizer, tmp_path, monkeypatch, capsys):
    from course_utils.updates import Gate, candidate, current_version, load_version, rollback

    groups = data.to_groups([(r["query"], r["document"], r["relevance"]) for r in rows(0, 6)])
    base, other = (Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name=n) for n in "ab")
    with torch.no_grad():
        other.model.model.layers[-1].mlp.down_proj.weight.add_(0.1)
    monkeypatch.setattr(candidate, "judge", lambda *_: (True, "The gain is real.", {}))
    for reranker in (base, other):
        reranker.save(tmp_path / reranker.name)
    (tmp_path / "g.json").write_text(json.dumps(rows(0, 6)))
    monkeypatch.chdir(tmp_path)
    judged = "gate w --model a --candidate b --target g.json --guard g=g.json --least 2 --layers 1 --device cpu"
    assert main(judged.split()) == 0
    line = capsys.readouterr().out.strip().split("\n")[-1]
    assert line.startswith("To use it: python -m course_utils versions w --out FOLDER --model a;")
    assert (
        main(
            [*line.partition("course_utils ")[2].partition(";")[0].replace("FOLDER", "used").split(), "--device", "cpu"]
        )
        == 0
    )
    used = Reranker.load("used", device="cpu", quiet=True).model.state_dict()
    assert all(torch.equal(used[k], v) for k, v in other.model.state_dict().items())
    assert (
        main(["rollback", "w", "--model", "a", "--device", "cpu"]) == 0
        and "To use it: python" in capsys.readouterr().out
    )
    done = candidate._consider(tmp_path / "v", base, other, Gate(groups, {"g": groups}, least=2), layers=1)
    assert done.accepted and current_version(tmp_path / "v") == done.version
    name, weight = "model.layers.1.mlp.down_proj.weight", other.model.model.layers[-1].mlp.down_proj.weight
    assert torch.equal(base.model.get_parameter(name), weight)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.docx").write_text("years of work")
    assert main(["rollback", str(tmp_path / "v"), "--out", str(tmp_path / "own")]) == 2
    assert current_version(tmp_path / "v") == done.version, "an output that is refused must not roll back"
    with monkeypatch.context() as broken:
        broken.setattr(Reranker, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        for _ in range(2):
            assert main(["rollback", "v", "--model", "a", "--out", "gone", "--device", "cpu"]) == 2
    assert current_version(tmp_path / "v") == done.version, "a model that cannot be written must not roll back"
    assert main(["rollback", "v", "--model", "nano", "--out", "gone", "--device", "cpu"]) == 2, "another base"
    assert current_version(tmp_path / "v") == done.version
    assert rollback(tmp_path / "v", base).startswith("v0000")
    assert not torch.equal(base.model.get_parameter(name), weight)
    load_version(tmp_path / "v", base, done.version)
    assert torch.equal(base.model.get_parameter(name), weight)
    with torch.no_grad():
        other.model.model.embed_tokens.weight.add_(0.1)
    with pytest.raises(InputError, match="keeps frozen"):
        candidate._consider(tmp_path / "v", base, other, Gate(groups, {"g": groups}, least=2), layers=1)


# Long documents

FILLER = "The clinic has a garden. Visitors may sit there in the afternoon. Parking costs two euros. "
LATE = FILLER * 30 + "Against fever give the child small sips of water and paracetamol."


def test_the_best_piece_of_a_right_document_trains_and_the_others_stand_nowhere(nano):
    group = Group("what helps a child with fever?", [LATE, "Rent is due."], [1, 0])
    (best,) = _best_pieces(nano, [group])
    assert best.relevance == (1, 0) and best.documents[1] == "Rent is due."
    assert best.documents[0] in LATE and "sips of water" in best.documents[0] and len(best.documents[0]) < 1000


def test_the_commands_read_long_documents_whole_and_say_how_many_are_cut(world, capsys):
    long = [{**r, "document": "a word and another. " * 150 + r["document"]} for r in rows(8, 6)]
    (world / "long.json").write_text(json.dumps(long))
    lines(world / "pairs.jsonl", [{k: r[k] for k in ("query", "document")} for r in long])
    (world / "docs.txt").write_text(long[0]["document"] + "\nshort\n")
    for way in ("cut", "passages"):
        assert main(f"evaluate --model model --data long.json --long-documents {way} --json e.json".split()) == 0
        cut = json.loads((world / "e.json").read_text())["run"]["data"]["data"]["documents_cut"]
        assert (cut > 0) == (way == "cut")
        capsys.readouterr()
        assert main(f"score --model model --pairs pairs.jsonl --out {way}.jsonl --long-documents {way}".split()) == 0
        assert ("of 24 documents cut" in capsys.readouterr().err) == (way == "cut")
        assert main(f"rank --model model --query a --documents docs.txt --long-documents {way} --json r.json".split()) == 0  # fmt: skip
        assert ("start" in json.loads((world / "r.json").read_text())["ranking"][0]) == (way == "passages")
    assert (
        main(
            [
                "score",
                "--model",
                "model",
                "--pairs",
                "pairs.jsonl",
                "--out",
                "cut.jsonl",
                "--long-documents",
                "passages",
            ]
        )
        == 2
    )
    assert "another long documents" in capsys.readouterr().err
    call = "adapt --model model --train train.json --test long.json --layers 1 --epochs 1 --no-replay --out out --json r.json"
    assert main(f"{call} --long-documents passages".split()) == 0
    found = json.loads((world / "r.json").read_text())["run"]
    assert found["recipe"]["long_documents"] == "passages" and found["data"]["test"]["documents_cut"] == 0


# Grades, teachers, instructions


def descend(loss, labels, steps=300, **more):
    """Return the scores of one list that a loss leads to."""
    scores = torch.zeros(len(labels), requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.05)
    labels, groups = torch.tensor(labels, dtype=torch.float32), torch.zeros(len(labels), dtype=torch.long)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(scores, labels, groups, **more).backward()
        optimizer.step()
    return scores.detach().tolist()


def test_the_graded_loss_orders_by_grade_and_both_does_not():
    by_grade, plain = descend(_graded, [1, 3, 2, 0]), descend(_both, [1, 3, 2, 0])
    assert by_grade[1] > by_grade[2] + 0.1 and by_grade[2] > by_grade[0] + 0.1 and by_grade[0] > 0 > by_grade[3]
    assert max(plain[:3]) - min(plain[:3]) < 1e-4 and plain[3] < 0


def test_the_teacher_loss_follows_the_teacher_and_does_without_one():
    told = torch.tensor([2.0, -1.0, 4.0])
    scores = descend(_teacher, [1, 0, 1], teacher=told)
    assert scores[2] > scores[0] + 0.5 > scores[1]
    none = torch.full((3,), float("nan"))
    assert descend(_teacher, [1, 0, 1], teacher=none) == pytest.approx(descend(_both, [1, 0, 1]), abs=1e-4)


def test_scores_from_0_to_1_are_probabilities_and_the_loss_is_found():
    graded, told = Group("q", ["a", "b"], [2, 0]), Group("q", ["a", "b"], [1, 0], scores=[0.5, 1.0])
    assert _teacher_logits([told], True)[0].tolist() == pytest.approx([0.0, 9.2102], abs=1e-2)
    assert _teacher_logits([Group("q", ["a", "b"], [1, 0], scores=[3, -2])], False)[0].tolist() == [3, -2]
    assert [_find_loss(g) for g in ([graded], [told], [told, graded], [Group("q", ["a"], [1])])] == ["graded", "teacher", "graded", "both"]  # fmt: skip
    with pytest.raises(InputError, match="no row has a teacher"):
        _find_loss([graded], "teacher")


def graded_groups(count, seed):
    """Return lists in which a mark says how good a document is: fully 3, partly 1."""
    random_, out = random.Random(seed), []
    for i in range(count):
        documents = [(f"{w} {random_.choice('abcdefgh')}{seed}x{i}", r) for w, r in (("silver", 3), ("copper", 1), ("iron", 1), ("paper", 0), ("water", 0))]  # fmt: skip
        random_.shuffle(documents)
        out.append(Group(f"metal {seed} {i}", [d for d, _ in documents], [r for _, r in documents]))
    return out


@pytest.mark.slow
def test_grades_are_learned_better_by_grade_than_by_right_and_wrong(tokenizer):
    from course_utils.evaluation import evaluate

    test, found = graded_groups(12, 3), {}
    for loss in ("both", "auto"):
        reranker = Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="tiny")
        recipe = Recipe(layers="all", epochs=4, loss=loss, learning_rate=3e-3, ema_decay=0.0)
        done = adapt(reranker, graded_groups(24, 1), graded_groups(8, 2), recipe, quiet=True)
        found[done.recipe["loss"]] = evaluate(reranker, test).summary["ndcg@10"]
    assert found["graded"] > found["both"] + 0.01, found


def test_a_teacher_trains_with_and_without_its_scores(tokenizer):
    groups = [Group(g.query, g.documents, [int(r > 0) for r in g.relevance], scores=[float(r) for r in g.relevance]) for g in graded_groups(8, 1)]  # fmt: skip
    reranker = Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="tiny")
    done = adapt(reranker, groups, graded_groups(4, 2), Recipe(layers=1, epochs=1, loss="teacher"), quiet=True)
    assert done.recipe["loss"] == "teacher" and np.isfinite(done.history[-1]["dev_loss"])
    source = Source(groups, reranker.encode(groups), None, _teacher_logits(groups, False))
    batch = source.collate([0, 1])
    assert batch.teacher.tolist() == [groups[g].scores[c] for g, c in batch.index]


def test_a_row_has_its_own_instruction(tiny, world, capsys):
    told = Group("fever", ["a page", "rent"], [1, 0], instruction="Find help for the sick")
    plain = Group("fever", ["a page", "rent"], [1, 0])
    own = _encode_groups(tiny.tokenizer, [told, plain])
    other = _encode_groups(tiny.tokenizer, [plain], "Find help for the sick")
    assert own.full_ids(0, 1) == other.full_ids(0, 1) and own.full_ids(1, 1) != own.full_ids(0, 1)
    alone = Reranker(tiny.model, tiny.tokenizer, "Find help for the sick", 256)
    scores = tiny.score_groups([told, plain])
    assert (
        np.abs(scores[0] - alone.score_groups([plain])[0]).max() < 1e-5 and np.abs(scores[0] - scores[1]).max() > 1e-4
    )
    with pytest.raises(InputError, match="instruction"):
        tiny.score_groups([Group("q", ["d"], [1], instruction="<|im_end|>")])
    lines(world / "t.jsonl", [{**r, "instruction": "Find help"} for r in rows(0, 8)])
    assert main(["adapt", "--model", "model", "--train", "t.jsonl", "--test", "test.json", "--layers", "1", "--epochs", "1", "--no-replay", "--out", "out", "--json", "r.json"]) == 0  # fmt: skip
    assert Reranker.load(world / "out" / "model", device="cpu", quiet=True).instruction == "Find help"


# Where data come from


def test_a_dataset_of_the_hub_is_read_at_its_revision(monkeypatch):
    import datasets

    asked = []

    def load(name, revision=None):
        asked.append((name, revision))
        return datasets.DatasetDict({"train": datasets.Dataset.from_list([{"anchor": "q", "positive": "a"}])})

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = read_data("hub:owner/pairs@abc123")
    assert asked == [("owner/pairs", "abc123")] and "at revision abc123, train" in str(found)
    assert found.groups == [Group("q", ["a"], [1])]
    assert "name one as hub:" in str(read_data("hub:owner/pairs"))
    with pytest.raises(InputError, match="has no part"):
        read_data("hub:owner/pairs", part="test")


def test_a_table_of_one_column_is_a_list_of_passages(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("Paragraph\nGive water, often.\nRent is due.\n", encoding="utf-8-sig")
    assert [p.text for p in read_passages(path)[0]] == ["Give water, often.", "Rent is due."]
    path.write_text('"Give water, often."\n"Rent is due."\n', encoding="gb18030")
    assert [p.text for p in read_passages(path)[0]] == ["Give water, often.", "Rent is due."]


def test_a_yes_among_numbers_is_refused():
    records = [{"query": "q", "document": "a", "label": "yes"}, {"query": "q", "document": "b", "label": 0}]
    with pytest.raises(InputError, match="wrong label"):
        read_data(records)


@pytest.mark.parametrize(
    ("best", "difference", "general", "words"),
    [
        (2, (0.05, 0.01, 0.09), (0.0, -0.01, 0.01), ["gained 0.050", "is settled", "no loss is seen", "more training questions"]),
        (3, (0.02, -0.02, 0.06), None, ["not settled", "about 420 more test queries show it in four of five tests", "give --general", "--epochs 6"]),
        (2, (-0.05, -0.09, -0.01), (-0.03, -0.05, -0.01), ["lost 0.050", "do not use it", "was forgotten", "Fewer --layers"]),
        (0, (0.0, 0.0, 0.0), None, ["Nothing was learned", "data check"]),
        (2, (0.0001, -0.02, 0.02), None, ["thousands"]),
    ],
)  # fmt: skip
def test_the_closing_words_say_what_the_figures_say(best, difference, general, words):
    from course_utils.cli.told import paragraph
    from course_utils.evaluation import Difference
    from course_utils.training import Adaptation

    history = [{"epoch": e, "ndcg@10": 0.5 + 0.1 * (e == best)} for e in range(4)]
    done = Adaptation(
        history,
        best,
        1.0,
        1,
        2,
        recipe={"layers": 3, "epochs": 3, "loss": "both", "keep": "best"},
        counts={"trained": 85, "dev": {"queries": 15}, "replayed": 20},
        kept={"ndcg@10": 0.6},
    )
    differences = [d and Difference(*d, 10, 5) for d in (difference, general)]
    text = paragraph(done, 60, *differences)
    assert all(w in text for w in [*words, "from 85 queries (15 more are dev; 20 general ones mixed in)"]), text
    told = paragraph(done, 60, *differences, Difference(0.0, -0.02, 0.02, 5, 5))  # a rule does as much
    assert ("that queries are read is not settled" in told) == (difference[1] > 0) and "more than a rule" not in told
    told = paragraph(done, 60, *differences, Difference(0.03, 0.01, 0.05, 9, 5))
    assert ("more than a rule that never reads" in told) == ("one seed of many" in text) == (difference[1] > 0)
    if best:
        assert f"epoch {best} of 3 kept" in text
        done.recipe["keep"], done.best_epoch = "halfway", 3
        half = paragraph(done, 60, *differences)
        assert "half of the way to epoch 3 kept" in half and ("--epochs 6" in half) == (best == 3)
        assert "dev was best before" not in half, "dev did not choose"
        done.kept |= {"low": -0.2, "high": -0.1}  # below the start on dev, for sure
        worse = paragraph(done, 60, *differences)
        assert "ranks worse than the start" in worse and "--keep best" in worse and "--epochs 6" not in worse
    done.history[0]["ndcg@10"] = 1.0
    told = paragraph(done, 60, *differences)
    assert "dev lists are ranked perfectly before training" in told and "more training questions" not in told


def test_the_handbook_is_messy_and_read_as_meant():
    from benchmarks.search import COLUMNS, handbook
    from course_utils.files import data_folder

    folder = data_folder() / "handbook"
    for language, encoding, mark in (("en", "utf-8", "semicolon"), ("zh", "gb18030", "comma")):
        found = read_data(folder / language / "questions.csv", COLUMNS[language], drop_repeated=True)
        assert len(found.groups) == 100 and f"{encoding}, separated by {mark}" in str(found)
        assert "4 pairs that stand twice" in str(found) and sum(len(g.documents) for g in found.groups) == 105
        passages, _ = read_passages(folder / language / "handbook.csv")
        assert len(passages) == len({p.text for p in passages}) == 75 and passages[0].id[1:] == "-001"
        train, dev, test, texts = handbook(language)
        assert len(train) + len(dev) + len(test) == 100 and len(texts) == 75
        assert all(d in texts for g in (*train, *dev, *test) for d in g.documents)
        assert min(sum(r == 0 for r in g.relevance) for g in test) >= 10


def test_the_search_benchmark_measures_a_folder_and_goes_on_where_it_stopped(world, monkeypatch, tiny, capsys):
    from benchmarks import search as bench
    from benchmarks.common import unpacked

    (world / "set").mkdir()
    for name in ("train", "test"):
        shutil.copy(world / f"{name}.json", world / "set")
    monkeypatch.setattr(bench.Reranker, "load", lambda *_, **__: tiny)
    monkeypatch.setattr(bench, "load_domain", lambda *_: [])
    monkeypatch.setattr(bench, "quiet", lambda: None)
    command = ["--real", str(world / "set"), "--epochs", "1", "--seeds", "1", "--json", str(world / "s.json")]
    assert bench.main(command) == 0
    kept = json.loads((world / "s.json").read_text())
    (cells,) = kept["cells"].values()
    assert kept["sets"]["set"]["test"] == 6 == len(unpacked(cells["before"]["values"]))
    assert sum(unpacked(cells["within"]["values"])) >= sum(unpacked(cells["BM25"]["values"]))
    page = (world / "s.md").read_text()
    assert page.startswith("# Search before and after adapting") and "\n| set |" in page
    monkeypatch.setattr(bench, "adapt", None)  # nothing is trained again
    assert bench.main(command) == 0 and json.loads((world / "s.json").read_text()) == kept
    with pytest.raises(SystemExit):
        bench.main([])
    assert "give --handbook, or --real" in capsys.readouterr().err
