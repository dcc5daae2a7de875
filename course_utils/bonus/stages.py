"""The training loop: stages by time, resumable, with averaged last weights."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from course_utils.bonus.muon import Muon
from course_utils.bonus.peers import Peers
from course_utils.bonus.student import parameters_by_kind
from course_utils.files import whole

SAVE_SECONDS = 120


@dataclass(frozen=True)
class Stage:
    """One stage: its share of the time, what its batches are, and the weights of the throw-away losses.

    Attributes:
        share: of the whole time.
        name: for the log.
        kind: "random" tokens, "windows", or "lists" of the teacher.
        low, high: shortest and longest document in tokens.
        lists: lists a batch.
        dense, meaning: weights.
        windows: share of window batches in a stage of lists.
        labelled: share of batches of human labels in a stage of lists.
        short: only the last token of the prompt's tail (9 tokens, a fifth of the cost of a short document).
    """

    share: float
    name: str
    kind: str
    low: int
    high: int
    lists: int
    dense: float
    meaning: float = 0.0
    windows: float = 0.0
    labelled: float = 0.0
    short: bool = False


STAGES = [
    Stage(0.05, "random tokens", "random", 8, 16, 40, 2.0, short=True),
    Stage(0.03, "windows to 20", "windows", 10, 20, 32, 1.5, short=True),
    Stage(0.03, "windows to 40", "windows", 14, 40, 18, 1.0, short=True),
    Stage(0.42, "lists to 45", "lists", 20, 45, 12, 0.4, 0.5, windows=0.15, short=True),
    Stage(0.37, "lists", "lists", 20, 200, 11, 0.15, 0.3, windows=0.05),
    Stage(0.10, "lists and human labels", "lists", 20, 200, 11, 0.0, 0.2, labelled=0.35),
]


def stage_at(done):
    """Return the stage in force at ``done`` (0 to 1 of the whole time)."""
    end = 0.0
    for stage in STAGES:
        end += stage.share
        if done < end:
            return stage
    return STAGES[-1]


def next_batch(stage, pool, windows, labelled, random):
    """Return a batch for ``losses.BatchLoss``; see there. ``pool`` may be None before the stages of lists."""
    if stage.kind == "random":
        return windows.synthetic(stage.lists, 3, int(random.integers(stage.low, stage.high + 1))), None, None, None
    drawn = random.random()
    if stage.kind == "windows" or drawn < stage.windows:
        longer = stage.high > 24
        high = min(stage.high, 60)
        return windows.real(stage.lists, 4 if longer else 3, stage.low, high), None, None, None
    if drawn < stage.windows + stage.labelled:
        return sample_labelled(labelled, stage.lists, 5, random), None, None, None
    groups, index, cosines = pool.batch(stage.lists, stage.high)
    return groups, index, cosines, pool.meant


def sample_labelled(groups, count, documents, random):
    """Return ``count`` labelled lists cut to ``documents`` candidates, the right one first."""
    out = []
    for n in random.choice(len(groups), count, replace=False):
        query, own, labels = groups[n]
        right = random.choice(np.flatnonzero(labels))
        wrong = random.choice(np.flatnonzero(np.array(labels) == 0), documents - 1)
        out.append((query, [own[i][:200] for i in (right, *wrong)]))
    return out


class Run:
    """A training run that lives in a folder and goes on where it stopped.

    Args:
        work: folder for checkpoint and log.
        model, heads: the student and its throw-away heads.
        minutes: training time.
        rates: peak learning rates of (matrices, other parameters, embedding).
        peers: the processes that train together; rank 0 writes.
        done: share of the stages that an earlier training stands for.
    """

    def __init__(self, work, model, heads, minutes, rates=(4e-3, 2e-3, 6e-4), peers=None, done=0.0):
        self.peers = peers or Peers()
        self.work, self.model, self.heads, self.total = Path(work), model, heads, minutes * 60 / (1 - done)
        matrices, other, table = parameters_by_kind(model, heads)
        small = [{"params": other, "peak": rates[1]}, {"params": table, "peak": rates[2]}]
        self.optimizers = [
            Muon([{"params": matrices, "peak": rates[0]}], peers=self.peers),
            torch.optim.Adam(small, lr=1e-3, betas=(0.9, 0.98), fused=True),
        ]
        self.step, self.seconds, self.log, self.average, self.averaged = 0, done * self.total, [], {}, 0
        if (self.work / "state.safetensors").exists():
            self.resume()

    def tensors(self):
        """Return {name: tensor} of all that a training is made of: weights, heads, their average, optimizers."""
        kept = {"model": dict(self.model.named_parameters()), "heads": self.heads.state_dict(), "average": self.average}
        for o, optimizer in enumerate(self.optimizers):
            for i, held in optimizer.state_dict()["state"].items():
                kept[f"optimizer{o}.{i}"] = held
        return {f"{part} {name}": t.detach().contiguous() for part, own in kept.items() for name, t in own.items()}

    def resume(self):
        """Read the checkpoint."""
        found = {"average": {}}
        with safe_open(self.work / "state.safetensors", "pt") as file:
            vars(self).update(json.loads(file.metadata()["facts"]))
            for whole_name in file.keys():  # noqa: SIM118, no mapping
                part, _, name = whole_name.partition(" ")
                found.setdefault(part, {})[name] = file.get_tensor(whole_name)
        self.average = found["average"]
        self.model.load_state_dict(found["model"], strict=False)  # the output is the embedding
        self.heads.load_state_dict(found["heads"])
        for o, optimizer in enumerate(self.optimizers):
            own = {int(k.partition(".")[2]): held for k, held in found.items() if k.startswith(f"optimizer{o}.")}
            optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})
        self.say(f"resuming at step {self.step}, {self.seconds / 60:.1f} minutes done")

    def save(self):
        """Write the checkpoint; a kill leaves the one before."""
        if not self.peers.rank:
            facts = json.dumps({k: getattr(self, k) for k in ("step", "seconds", "averaged", "log")})
            with whole(self.work / "state.safetensors", "wb") as file:
                file.write(save(self.tensors(), {"facts": facts}))

    def say(self, line):
        """Print a line and keep it in log.txt; of several processes only the first speaks."""
        if self.peers.rank:
            return
        print(line, flush=True)
        with (self.work / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def rate(self, done):
        """Return the share of the peak learning rate: up over 60 steps, then straight down to 3 %."""
        return min(1.0, (self.step + 1) / 60) * max(0.03, 1 - max(0.0, done - 0.25) / 0.75)

    def share_gradients(self, parameters, seconds):
        """Put the mean of all processes' gradients in the place of each; return the longest of their ``seconds``."""
        if self.peers.count == 1:
            return seconds
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        given = self.peers.exchange([*own, torch.tensor([seconds])])
        for p, mean in zip(parameters, given[:, :-1].mean(0).split([*map(torch.numel, own)]), strict=True):
            p.grad = mean.view_as(p)
        return float(given[:, -1].max())

    def train(self, batches, loss, watch=None, watch_every=600):
        """Train until the time is used up.

        Args:
            batches: function of the stage that returns a batch.
            loss: function (batch, stage) that returns (loss, parts).
            watch: function called about every ``watch_every`` seconds with the run, for a held-out figure.
        """
        saved = started = time.time()
        watched = 0.0 if self.seconds and not self.step else started  # a model that it starts from is measured at once
        recent, parameters = [], [p for o in self.optimizers for g in o.param_groups for p in g["params"]]
        self.model.train()
        while self.seconds < self.total:
            done = self.seconds / self.total
            stage = stage_at(done)
            value, parts = loss(batches(stage), stage)
            if not torch.isfinite(value):
                raise RuntimeError(f"the loss is {float(value)} at step {self.step} in stage {stage.name}")
            value.backward()
            self.seconds += self.share_gradients(parameters, min(time.time() - started, 30.0))  # asleep is not trained
            started = time.time()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for o in self.optimizers:
                for g in o.param_groups:
                    g["lr"] = g["peak"] * self.rate(done)
                o.step()
                o.zero_grad(set_to_none=True)
            self.step += 1
            recent.append(parts)
            if done > 0.88 and self.step % 10 == 0:
                self.add_to_average()
            if self.step % 25 == 0:
                names = dict.fromkeys(k for r in recent for k in r)
                mean = {k: np.mean([r[k] for r in recent if k in r]) for k in names}
                shown = "  ".join(f"{k} {v:.3f}" for k, v in mean.items())
                self.say(f"{self.seconds / 60:6.1f} min  step {self.step:5d}  {stage.name:14s} {shown}")
                rounded = {k: round(float(v), 4) for k, v in mean.items()}
                self.log.append([round(self.seconds / 60, 1), stage.name, rounded])
                recent = []
            if time.time() - saved > SAVE_SECONDS:
                self.save()
                saved = time.time()
            if watch and time.time() - watched > watch_every and not self.peers.rank:
                watch(self)
                watched = time.time()
                self.model.train()
        self.save()

    def add_to_average(self):
        """Take the present weights into their running mean."""
        self.averaged += 1
        for name, p in self.model.named_parameters():
            own = self.average.setdefault(name, torch.zeros_like(p))
            own.lerp_(p.detach(), 1 / self.averaged)
