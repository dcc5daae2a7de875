"""The reranker: load it, score pairs, rank a list, save it.

A score is logit(yes) - logit(no) at the last token of the official prompt; the sigmoid of it is a probability.
"""

import json
import os
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from course_utils.errors import InputError
from course_utils.files import whole_folder, write_json
from course_utils.machine import pick_device, pick_dtype
from course_utils.model import prompt
from course_utils.model.batches import gather_scores, own_batches
from course_utils.model.forward import (
    bucket_size,
    build_segments,
    decoder_of,
    pad_rows,
    shared_forward,
    supports_sharing,
    yes_minus_no,
)
from course_utils.model.hub import model_folder

SETTINGS_FILE = "reranker.json"


@dataclass(frozen=True)
class Ranked:
    """One document in a ranking: its text, its score (a logit), its probability and its index in the input."""

    document: str
    score: float
    probability: float
    index: int


def sigmoid(x):
    """Return 1 / (1 + exp(-x)) for an array of logits, without overflow."""
    return np.exp(-np.logaddexp(0, -np.asarray(x, dtype=np.float64)))


class Reranker:
    """A causal language model that judges whether a document answers a query.

    Attributes:
        model: the Hugging Face model.
        tokenizer: its tokenizer.
        instruction: the task in one English sentence; part of the prompt.
        max_length: tokens of one prompt at most; only the document is ever truncated.
        batch_tokens: tokens computed at once; lower it when memory is short.
        truncated: how many documents the last call cut.
    """

    def __init__(
        self, model, tokenizer, instruction=prompt.DEFAULT_INSTRUCTION, max_length=1024, batch_tokens=16384, name=""
    ):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.instruction, self.max_length, self.batch_tokens, self.name = instruction, max_length, batch_tokens, name
        self.yes_id, self.no_id = prompt.yes_no_ids(tokenizer)
        self.truncated = 0

    @classmethod
    def load(
        cls, name="nano", *, instruction=None, max_length=None, device=None, dtype=None, revision=None, quiet=False
    ):
        """Load a reranker.

        Args:
            name: "nano" (bundled), a local folder, or a hub name (pinned revision for Qwen/Qwen3-Reranker-0.6B).
            instruction: one English sentence; default: what the folder was saved with, else the official one.
            max_length: tokens of one prompt; default: what the folder was saved with, else 1024.
            device: "cpu", "cuda", "mps"; default: the fastest here.
            dtype: a torch dtype; default: bf16 where it is fast, fp16 on older GPUs, fp32 for small models.
            revision: commit on the hub.
            quiet: do not print the choice of device and dtype.

        Raises:
            InputError: unknown name, broken folder, no network, yes or no not a single token.
        """
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # one bar a load says nothing and hides messages
        folder = model_folder(name, revision, quiet=quiet)
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise InputError(f"{folder} cannot be read as a model: {str(error).splitlines()[0]}") from None
        kinds = config.architectures or ["?"]
        if not kinds[0].endswith("ForCausalLM"):
            raise InputError(
                f"{folder} holds a {kinds[0]}; the course scores with a causal language model (yes/no logits), "
                "not with a classification head."
            )
        device = device or pick_device()
        if device == "cuda" and "LOCAL_RANK" in os.environ:
            device = f"cuda:{os.environ['LOCAL_RANK']}"  # under accelerate launch each process has its own GPU
        size = sum(p.stat().st_size for p in folder.glob("*.safetensors")) / 2
        dtype = dtype or pick_dtype(device, size)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            ).to(device)
        except (ValueError, OSError, RuntimeError) as error:
            raise InputError(f"The weights in {folder} cannot be loaded: {str(error).splitlines()[0]}") from None
        saved = read_settings(folder)
        if not quiet:
            total = sum(p.numel() for p in model.parameters())
            print(f"{name}: {total / 1e6:.1f} M parameters on {device} in {str(dtype).removeprefix('torch.')}")
        return cls(
            model,
            tokenizer,
            instruction or saved.get("instruction", prompt.DEFAULT_INSTRUCTION),
            max_length or saved.get("max_length", 1024),
            name=str(name),
        )

    @property
    def device(self):
        """The device that the model is on."""
        return next(self.model.parameters()).device

    def encode(self, groups):
        """Return EncodedGroups of groups under this instruction and max_length."""
        encoded = prompt.encode_groups(self.tokenizer, groups, self.instruction, self.max_length)
        self.truncated = encoded.truncated
        return encoded

    @torch.inference_mode()
    def score_encoded(self, encoded):
        """Return one float32 array of logits a query for EncodedGroups; several processes score a share each."""
        share = supports_sharing(self.model)
        scores = [np.zeros(len(own), dtype=np.float32) for own in encoded.candidates]
        for batch in own_batches(encoded, self.batch_tokens, self.device):
            if share:
                self._score_shared(encoded, batch, scores)
            else:
                self._score_plain(encoded, batch, scores)
        return gather_scores(scores, self.device)

    def _score_shared(self, encoded, batch, scores):
        candidates = [[encoded.candidates[g][c] for c in own] for g, own in batch]
        prefixes = [encoded.prefixes[g] for g, _ in batch]
        segments, leaves, order = build_segments(encoded.constant, prefixes, candidates, bucket_size(self.device))
        states = shared_forward(self.model, [s.to(self.device) for s in segments], leaves)
        logits = yes_minus_no(self.model, torch.cat(states), self.yes_id, self.no_id).cpu().numpy()
        for (row, column), value in zip(order, logits, strict=True):
            g, own = batch[row]
            scores[g][own[column]] = value

    def _score_plain(self, encoded, batch, scores):
        keys = [(g, c) for g, own in batch for c in own]
        ids, lengths = pad_rows([encoded.full_ids(g, c) for g, c in keys], pad=self.tokenizer.pad_token_id or 0)
        mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
        out = decoder_of(self.model)(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device), use_cache=False
        ).last_hidden_state
        last = out[torch.arange(len(ids)), lengths.to(self.device) - 1]
        for (g, c), value in zip(keys, yes_minus_no(self.model, last, self.yes_id, self.no_id).tolist(), strict=True):
            scores[g][c] = value

    def score_groups(self, groups, progress=False, chunk=2048):
        """Return one array of logits a query, in constant working memory.

        Args:
            groups: list of Group, or of (query, [document, ...]).
            progress: show a bar with the time left.
            chunk: pairs tokenised at once.
        """
        groups = prompt.as_lists(groups)
        total = sum(len(documents) for _, documents in groups)
        bar = tqdm(total=total, unit="pair", disable=not progress)
        scores, waiting, size, cut = [], [], 0, 0
        for i, (query, documents) in enumerate(groups):
            waiting.append((query, documents))
            size += len(waiting[-1][1])
            if size >= chunk or i == len(groups) - 1:
                scores += self.score_encoded(self.encode(waiting))
                cut += self.truncated
                bar.update(size)
                waiting, size = [], 0
        bar.close()
        self.truncated = cut
        return scores

    def score(self, pairs, progress=False):
        """Return a float32 array of logits for an iterable of (query, document) pairs, in order.

        Neighbouring pairs with the same query share its computation. Pairs are read in chunks, so a generator of
        a million pairs does not have to fit in memory.
        """
        pairs, out = iter(pairs), []
        bar = tqdm(unit="pair", disable=not progress)
        while chunk := list(islice(pairs, 8192)):
            groups = [(q, [d for _, d in rows]) for q, rows in groupby(chunk, key=lambda pair: pair[0])]
            out += self.score_groups(groups)
            bar.update(len(chunk))
        bar.close()
        return np.concatenate(out) if out else np.empty(0, dtype=np.float32)

    def rank(self, query, documents, top_k=None):
        """Return the documents as Ranked, best first; equal scores keep their input order.

        Raises:
            InputError: when there is no document or the query is empty.
        """
        documents = list(documents)
        if not str(query).strip():
            raise InputError("The query is empty; write what you are looking for.")
        if not documents:
            raise InputError("There is no document to rank; give at least one.")
        scores = self.score_groups([(query, documents)])[0]
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [Ranked(documents[i], float(scores[i]), float(sigmoid(scores[i])), int(i)) for i in order]

    def save(self, folder):
        """Write model, tokenizer and settings to ``folder`` (safetensors); complete or not at all.

        Raises:
            InputError: when ``folder`` holds files that were not written here, or cannot be written.
        """
        with whole_folder(folder) as new:
            self.model.save_pretrained(new)
            self.tokenizer.save_pretrained(new)
            write_json(new / SETTINGS_FILE, {"instruction": self.instruction, "max_length": self.max_length})
        return Path(folder)


def read_settings(folder):
    """Return what ``Reranker.save`` wrote beside the weights, or an empty dict.

    Raises InputError when the file is there but broken.
    """
    path = Path(folder) / SETTINGS_FILE
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {"instruction": str(saved["instruction"]), "max_length": int(saved["max_length"])}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; delete it to use the default instruction.") from None
