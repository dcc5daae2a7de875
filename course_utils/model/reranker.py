"""The reranker: load it, score pairs, rank a list, save it.

A score is logit(yes) - logit(no) at the last token of the official prompt; the sigmoid of it is a probability.
"""

import warnings
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from course_utils.errors import InputError
from course_utils.files import whole_folder, write_json
from course_utils.language import _
from course_utils.machine import _fast_products, check_device, check_dtype, pick_dtype
from course_utils.model import prompt
from course_utils.model.batches import _gather_scores, _own_batches
from course_utils.model.checkpoint import SETTINGS, read_settings
from course_utils.model.forward import (
    _bucket_size,
    _build_segments,
    _decoder_of,
    _shared_forward,
    _supports_sharing,
    _yes_minus_no,
    pad_rows,
)
from course_utils.model.hub import model_folder
from course_utils.model.loading import _load_parts, _written

_ASKED = 4096  # tokens of a batch on a CPU, between two questions whether to stop


@dataclass(frozen=True)
class Ranked:
    """One document in a ranking: its text, its score (a logit), its probability and its index in the input."""

    document: str
    score: float
    probability: float
    index: int


class Counted(list):
    """A list of results (an array of logits a query, or Ranked) with ``truncated``: how many documents were cut."""

    truncated = 0


def sigmoid(x):
    """Return 1 / (1 + exp(-x)) for an array of logits, without overflow."""
    return np.exp(-np.logaddexp(0, -np.asarray(x, dtype=np.float64)))


def _check_asked(query, documents):
    """Raise InputError where there is nothing to rank."""
    if not str(query).strip():
        raise InputError("The query is empty; write what you are looking for.")
    if not documents:
        raise InputError("There is no document to rank; give at least one.")


class Reranker:
    """A causal language model that judges whether a document answers a query.

    Attributes:
        model: the Hugging Face model.
        tokenizer: its tokenizer.
        instruction: the task in one English sentence; part of the prompt.
        max_length: tokens of one prompt at most; only the document is ever truncated.
        batch_tokens: tokens computed at once; lower it when memory is short.

    Threads may share one: scoring changes nothing in it.
    """

    def __init__(
        self, model, tokenizer, instruction=prompt.DEFAULT_INSTRUCTION, max_length=1024, batch_tokens=16384, name=""
    ):
        prompt._check_prompt(instruction, max_length)
        self.model, self.tokenizer = model.eval(), tokenizer
        self.instruction, self.max_length, self.batch_tokens, self.name = instruction, max_length, batch_tokens, name
        self.yes_id, self.no_id = prompt.yes_no_ids(tokenizer)

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
            dtype: a torch dtype or its name; default: bf16 where it is fast, fp16 on older GPUs, fp32 for small models.
            revision: commit on the hub.
            quiet: do not print the choice of device and dtype.

        Raises:
            InputError: unknown name, broken folder, weights that do not fit or hold NaN, no network, no such device or
                dtype, a wrong instruction or max_length, yes or no not a single token.
        """
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # one bar a load says nothing and hides messages
        device, dtype = check_device(device), check_dtype(dtype)
        prompt._check_prompt(
            prompt.DEFAULT_INSTRUCTION if instruction is None else instruction,
            1024 if max_length is None else max_length,
        )
        folder = model_folder(name, revision, quiet=quiet)
        size = sum(p.stat().st_size for p in folder.glob("*.safetensors")) / 2
        dtype = dtype or pick_dtype(device, size)
        written = _written(folder)
        tokenizer, model = _load_parts(folder, dtype)
        saved = read_settings(folder)
        if _written(folder) != written:
            raise InputError("{folder} was replaced while it was read; load it again.", folder=folder)
        reranker = cls(
            model.to(device),
            tokenizer,
            saved.get("instruction", prompt.DEFAULT_INSTRUCTION) if instruction is None else instruction,
            saved.get("max_length", 1024) if max_length is None else max_length,
            name=str(name),
        )
        if not quiet:
            total = sum(p.numel() for p in model.parameters())
            print(
                _("{name}: {total:.1f} M parameters on {device} in {dtype}").format(
                    name=name, total=total / 1e6, device=device, dtype=str(dtype).removeprefix("torch.")
                )
            )
        return reranker

    @property
    def device(self):
        """The device that the model is on."""
        return next(self.model.parameters()).device

    def encode(self, groups):
        """Return EncodedGroups of groups under this instruction and max_length."""
        return prompt._encode_groups(self.tokenizer, groups, self.instruction, self.max_length)

    @torch.inference_mode()
    def score_encoded(self, encoded, stop=None):
        """Return one float32 array of logits a query for EncodedGroups; several processes score a share each.

        ``stop`` is asked before each batch: where it says so, the rest is left out.

        Raises:
            InputError: when a score is no number, as with damaged weights, or when stopped.
        """
        share = _supports_sharing(self.model)
        size = min(self.batch_tokens, _ASKED) if stop and self.device.type == "cpu" else self.batch_tokens
        scores = [np.zeros(len(own), dtype=np.float32) for own in encoded.candidates]
        score = self._score_shared if share else self._score_plain
        with _fast_products(self.device):
            for batch in _own_batches(encoded, size, self.device):
                if stop and stop():
                    raise InputError("Nobody waits for these scores any more.")
                score(encoded, batch, scores)
        scores = _gather_scores(scores, self.device)
        if not all(np.isfinite(own).all() for own in scores):
            raise InputError(
                "The model {name} gives scores that are no numbers (NaN): its weights are damaged, or too large for the "
                "number format; get it again, or load it with dtype float32.",
                name=self.name,
            )
        return scores

    def _score_shared(self, encoded, batch, scores):
        candidates = [[encoded.candidates[g][c] for c in own] for g, own in batch]
        prefixes = [encoded.prefixes[g] for g, _ in batch]
        segments, leaves, order = _build_segments(encoded.constant, prefixes, candidates, _bucket_size(self.device))
        states = _shared_forward(self.model, [s.to(self.device) for s in segments], leaves)
        logits = _yes_minus_no(self.model, torch.cat(states), self.yes_id, self.no_id).cpu().numpy()
        for (row, column), value in zip(order, logits, strict=True):
            g, own = batch[row]
            scores[g][own[column]] = value

    def _score_plain(self, encoded, batch, scores):
        keys = [(g, c) for g, own in batch for c in own]
        ids, lengths = pad_rows([encoded.full_ids(g, c) for g, c in keys], pad=self.tokenizer.pad_token_id or 0)
        mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
        out = _decoder_of(self.model)(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device), use_cache=False
        ).last_hidden_state
        last = out[torch.arange(len(ids)), lengths.to(self.device) - 1]
        for (g, c), value in zip(keys, _yes_minus_no(self.model, last, self.yes_id, self.no_id).tolist(), strict=True):
            scores[g][c] = value

    def score_groups(self, groups, progress=False, chunk=2048, stop=None):
        """Return a Counted list with one array of logits a query, in constant working memory.

        Args:
            groups: Group objects, or (query, [document, ...]) pairs.
            progress: show a bar with the time left.
            chunk: pairs tokenised at once.
            stop: see ``score_encoded``.

        Raises:
            InputError: something is no text, or a query leaves no room for a document (``prompt.queries_too_long``
                tells which, before).
        """
        groups = prompt._as_lists(groups)
        total = sum(len(documents) for _, documents in groups)
        bar = tqdm(total=total, unit="pair", disable=not progress)
        scores, waiting, size = Counted(), [], 0
        for i, group in enumerate(groups):
            waiting.append(group)
            size += len(group[1])
            if size >= chunk or i == len(groups) - 1:
                encoded = self.encode(waiting)
                scores += self.score_encoded(encoded, stop)
                scores.truncated += encoded.truncated
                bar.update(size)
                waiting, size = [], 0
        bar.close()
        return scores

    def score(self, pairs, progress=False):
        """Return a float32 array of logits for an iterable of (query, document) pairs, in order.

        Neighbouring pairs with the same query share its computation. Pairs are read in chunks, so a generator of
        a million pairs does not have to fit in memory. Warns when documents were cut.
        """
        pairs, out, cut, total = iter(pairs), [], 0, 0
        bar = tqdm(unit="pair", disable=not progress)
        while chunk := list(islice(pairs, 8192)):
            groups = [(q, [d for _, d in rows]) for q, rows in groupby(chunk, key=lambda pair: pair[0])]
            scores = self.score_groups(groups)
            out, cut, total = out + scores, cut + scores.truncated, total + len(chunk)
            bar.update(len(chunk))
        bar.close()
        self._warn(cut, total)
        return np.concatenate(out) if out else np.empty(0, dtype=np.float32)

    def rank(self, query, documents, top_k=None):
        """Return the documents as Ranked, best first; equal scores keep their input order. Warns when some were cut.

        Raises:
            InputError: when there is no document, the query is empty or too long, or something is no text.
        """
        [(query, documents)] = prompt._as_lists([(query, documents)])
        _check_asked(query, documents)
        found = self.score_groups([(query, documents)])
        self._warn(found.truncated, len(documents))
        scores = found[0]
        order = np.argsort(-scores, kind="stable")[:top_k]
        out = Counted(Ranked(documents[i], float(scores[i]), float(sigmoid(scores[i])), int(i)) for i in order)
        out.truncated = found.truncated
        return out

    def _warn(self, cut, total):
        if cut:
            warnings.warn(
                _(
                    "{cut} of {total} document{value} cut at max_length {max_length}: what stands after that counts for nothing."
                ).format(cut=cut, total=total, value="s" * (total > 1), max_length=self.max_length),
                stacklevel=3,
            )

    def settings(self):
        """Return what belongs to the weights beside them: instruction, max_length and a fingerprint of the prompt."""
        prompt._check_prompt(self.instruction, self.max_length)
        mark = prompt._fingerprint(self.instruction)
        return {"instruction": self.instruction, "max_length": self.max_length, "prompt": mark}

    def save(self, folder):
        """Write model, tokenizer and settings to ``folder`` (safetensors); complete or not at all.

        Raises:
            InputError: when ``folder`` holds files that were not written here, or cannot be written.
        """
        with whole_folder(folder, hashed=True) as new:
            self.model.save_pretrained(new)
            self.tokenizer.save_pretrained(new)
            write_json(new / SETTINGS, self.settings())
        return Path(folder)
