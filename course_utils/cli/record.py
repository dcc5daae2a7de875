"""How a result came about, for the result file: choices, data, model, versions, machine, and what to beware of."""

import datetime
import importlib.metadata
import os
import platform
import time
from pathlib import Path

from course_utils import __version__
from course_utils.cli.options import shown
from course_utils.cli.terminal import note
from course_utils.files import sha256
from course_utils.language import _

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy")
FEW = 30  # queries; below, an interval over queries is so wide that most gains are within it
SETTLED = 0.02  # nDCG@10 that dev and test may differ by in what they say of a training


class Record:
    """Collects while a command runs; ``finish`` returns it as a dict."""

    def __init__(self, args):
        self.started, self.warnings = time.perf_counter(), []
        self.content = {"command": args.command, "version": __version__}

    def model(self, reranker):
        """Put down which model is used, and where."""
        from course_utils.model.checkpoint import _weights_hash

        first = next(reranker.model.parameters())
        self.content["model"] = {
            "name": shown(reranker.name),
            "weights_sha256": _weights_hash(reranker.model),
            "parameters": sum(p.numel() for p in reranker.model.parameters()),
            "dtype": str(first.dtype).removeprefix("torch."),
            "max_length": reranker.max_length,
            "batch_tokens": reranker.batch_tokens,
            "instruction": reranker.instruction,
        }
        self.content["device"] = str(first.device)

    def data(self, part, path, counts):
        """Put down a file of labelled pairs: its hash and the Counts of what of it was used; say what was not."""
        digest = sha256(path) if Path(path).is_file() else None  # a pipe is read once
        self.content.setdefault("data", {})[part] = {"file": shown(path), "sha256": digest, **counts.as_dict()}
        if counts.sentence():
            self.warn(f"{shown(path)}: {counts.sentence()}")

    def cut(self, part, count):
        """Put down how many documents of a part of the data were cut, which only who encoded them knows; say it."""
        own = self.content["data"][part]
        own["documents_cut"] = count
        if count:
            length = self.content["model"]["max_length"]
            self.warn(
                _("{file}: {count} of {documents} documents were cut to fit {length} tokens.").format(
                    file=own["file"], count=count, documents=own["documents"], length=length
                )
            )

    def warn(self, text):
        """Print a remark on standard error and keep it."""
        self.warnings.append(text)
        note(text)

    def few(self, name, count):
        """Warn when a set of ``count`` queries is so small that its figures say little."""
        if count < FEW:
            self.warn(
                _("{count} {name} queries are few: what they say is uncertain; label more, {few} at least.").format(
                    count=count, name=name, few=FEW
                )
            )

    def alike(self, scores):
        """Warn when the scores of all documents of every query are the same: such a model ranks nothing."""
        if all(max(own) - min(own) < 1e-6 for own in scores if len(own) > 1):
            self.warn(
                _("all documents of a query get the same score: this model ranks nothing; check where it comes from.")
            )

    def finish(self):
        """Return the record."""
        import torch

        from course_utils.machine import peak_memory_mb

        return {
            **self.content,
            "versions": {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in PACKAGES},
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": time.perf_counter() - self.started,
            "peak_memory_mb": peak_memory_mb(),
            "warnings": self.warnings,
        }
