"""Exports loaded in this Python: transformers, sentence-transformers, ONNX Runtime; and prompts that are nearly right."""

import time
from importlib.metadata import version

import numpy as np
import torch

from course_utils.data import load_domain
from course_utils.evaluation.metrics import per_query
from course_utils.model import prompt
from course_utils.model.forward import _decoder_of, _yes_minus_no, pad_rows
from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_causal_lm, export_sequence_classifier
from course_utils.ship.folders import wrap_pair
from course_utils.ship.onnx import load_onnx

INSTRUCTION = prompt.INSTRUCTIONS["medical"]
SIZES = (1, 8)


def load_pairs():
    """Return (groups of the course's medical test sets, 32 pairs of them with short and long documents)."""
    groups = [g for language in ("en", "zh") for g in load_domain("medical", language, "test")]
    pairs = [(g.query, d) for g in groups[:: max(1, len(groups) // 8)] for d in g.documents[:4]][:30]
    pairs += [(pairs[0][0], " ".join(d for _, d in pairs[:3])), (pairs[-1][0], "".join(d for _, d in pairs[-3:]))]
    return groups, pairs


def chat(query, document):
    return [{"role": "query", "content": query}, {"role": "document", "content": document}]


def batched(score, pairs, size):
    return np.concatenate([score(pairs[i : i + size]) for i in range(0, len(pairs), size)])


def causal_scores(folder, pairs, dtype=torch.float32):
    """Return a function of batch size that scores with transformers alone, from the rendered template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])

    @torch.inference_mode()
    def score(some):
        batch = tokenizer.apply_chat_template(
            [chat(*pair) for pair in some], padding=True, return_tensors="pt", return_dict=True
        )
        logits = model(**batch).logits[:, -1].float()
        return (logits[:, yes] - logits[:, no]).numpy()

    return lambda size: batched(score, pairs, size)


def label_scores(folder, pairs, dtype=torch.float32, cut=False):
    """The same with the one-label classifier: from the template, or from wrapped pairs that the tokenizer cuts."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()

    @torch.inference_mode()
    def score(some):
        if cut:
            left, right = zip(*[wrap_pair(q, d, INSTRUCTION) for q, d in some], strict=True)
            batch = tokenizer(list(left), list(right), padding=True, truncation="longest_first", return_tensors="pt")
        else:
            batch = tokenizer.apply_chat_template(
                [chat(*pair) for pair in some], padding=True, return_tensors="pt", return_dict=True
            )
        return model(**batch).logits[:, 0].float().numpy()

    return lambda size: batched(score, pairs, size)


def gap(scores, truth):
    """Return the largest difference of a score as a table cell."""
    return f"{np.abs(scores - truth).max():.1e}"


def rows_here(folders, pairs, truth, truth_cut):
    """Return (target, folder and route, version, cell a batch size) of everything that loads in this Python.

    Args:
        folders: dict of export folders: "causal", "cross", "label", "onnx", and "cross cut", "label cut" with a small
            max_length.
        pairs: list of (query, document).
        truth: scores of ``Reranker.score``.
        truth_cut: the same with the small max_length.
    """
    from sentence_transformers import CrossEncoder

    raw, own, here = torch.nn.Identity(), f"transformers {version('transformers')}", "this package"
    st, ort = f"sentence-transformers {version('sentence-transformers')}", f"onnxruntime {version('onnxruntime')}"
    ours = Reranker.load(folders["causal"], device="cpu", dtype=torch.float32, quiet=True)
    cross, cross_cut, one = (CrossEncoder(str(folders[n]), device="cpu") for n in ("cross", "cross cut", "label"))
    back = Reranker.load(folders["cross"], device="cpu", dtype=torch.float32, quiet=True)
    onnx, int8 = load_onnx(folders["onnx"], threads=1), load_onnx(folders["onnx"], "model_int8.onnx", threads=1)
    label, label_cut = label_scores(folders["label"], pairs), label_scores(folders["label cut"], pairs, cut=True)
    template, wrapped, name = "one label, template", "one label, `wrap_pair`", "sentence-transformers"
    ways = [
        ("`Reranker.load`", "causal", here, lambda size: ours.score(pairs), truth),
        ("AutoModelForCausalLM", "causal, template", own, causal_scores(folders["causal"], pairs), truth),
        ("`CrossEncoder.predict`", name, st, lambda size: cross.predict(pairs, batch_size=size), truth),
        ("`CrossEncoder.predict`, documents cut", name, st, lambda size: cross_cut.predict(pairs, batch_size=size), truth_cut),
        ("`Reranker.load`", name, here, lambda size: back.score(pairs), truth),
        ("AutoModelForSequenceClassification", template, own, label, truth),
        ("the same, documents cut", wrapped, own, label_cut, truth_cut),
        ("`CrossEncoder.predict`", template, st, lambda size: one.predict(pairs, batch_size=size, activation_fn=raw), truth),
        ("ONNX Runtime", "onnx, model.onnx", ort, lambda size: onnx(pairs, size), truth),
        ("ONNX Runtime, int8", "onnx, model_int8.onnx", ort, lambda size: int8(pairs, size), truth),
    ]  # fmt: skip
    return [(a, b, c, *(gap(score(size), to) for size in SIZES)) for a, b, c, score, to in ways]


def rows_in_bf16(root, pairs, truth):
    """Return the rows of exports in bf16 against scores in fp32; folders are made below ``root``."""
    half = Reranker.load("nano", instruction=INSTRUCTION, device="cpu", dtype=torch.bfloat16, quiet=True)
    causal, label = export_causal_lm(half, root / "lm16"), export_sequence_classifier(half, root / "one16")
    scores = {
        "causal, template": causal_scores(causal, pairs, torch.bfloat16),
        "one label, template": label_scores(label, pairs, torch.bfloat16),
    }
    own = f"transformers {version('transformers')}"
    return [(f"bf16 against fp32, {n}", n, own, "", gap(score(8), truth)) for n, score in scores.items()]


def slips(reranker, groups):
    """Return [(what was done wrong, largest change of a score, nDCG@10)] for prompts that are nearly right."""
    tokenizer, model = reranker.tokenizer, reranker.model
    content, prefix, suffix = prompt.content_text, prompt.PREFIX, prompt.SUFFIX
    forms = {
        "the official prompt": lambda q, d: prefix + content(q, d, INSTRUCTION) + suffix,
        "last two newlines lost (a server strips the text)": lambda q, d: (
            prefix + content(q, d, INSTRUCTION) + suffix[:-2]
        ),
        "no empty think block (SGLang's example template)": lambda q, d: (
            prefix + content(q, d, INSTRUCTION) + "<|im_end|>\n<|im_start|>assistant\n"
        ),
        "default instruction (what llama.cpp's converter writes)": lambda q, d: prefix + content(q, d) + suffix,
        "no prompt: query, newline, document": lambda q, d: f"{q}\n{d}",
    }
    rows, first = [], None
    for name, form in forms.items():
        scores = []
        for g in groups:
            ids = [tokenizer.encode(form(g.query, d), add_special_tokens=False) for d in g.documents]
            values, lengths = pad_rows([torch.tensor(i) for i in ids])
            with torch.inference_mode():
                states = _decoder_of(model)(input_ids=values, use_cache=False).last_hidden_state
                last = states[torch.arange(len(ids)), lengths - 1]
                scores.append(_yes_minus_no(model, last, reranker.yes_id, reranker.no_id).numpy())
        first = first or scores
        change = max(np.abs(a - b).max() for a, b in zip(scores, first, strict=True))
        rows.append((name, change, per_query(scores, [g.relevance for g in groups]).mean()))
    return rows


def speed(reranker, folder, groups, repeats=3):
    """Return [(name, nDCG@10, largest change of a score, pairs a second)]; one thread, best of ``repeats`` rounds."""
    pairs = [(g.query, d) for g in groups for d in g.documents]
    ends = np.cumsum([len(g.documents) for g in groups])[:-1]
    ways = {
        "this package (shared prompt computed once)": reranker.score,
        "ONNX Runtime, fp32": load_onnx(folder, threads=1),
        "ONNX Runtime, dynamic int8": load_onnx(folder, "model_int8.onnx", threads=1),
    }
    best, scores = dict.fromkeys(ways, np.inf), {}
    for _ in range(repeats):  # in turn, so that a busy moment does not hit one way alone
        for name, score in ways.items():
            start = time.perf_counter()
            scores[name] = score(pairs)
            best[name] = min(best[name], time.perf_counter() - start)
    true = next(iter(scores.values()))
    labels = [g.relevance for g in groups]
    return [
        (name, per_query(np.split(s, ends), labels).mean(), np.abs(s - true).max(), len(pairs) / best[name])
        for name, s in scores.items()
    ]
