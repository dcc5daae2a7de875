"""Build the bundled base model from nothing, in stages that can be read and rebuilt on two cores.

    python -m course_utils.bonus.nano --text FOLDER --out build/nano [--minutes 120]

Stages: a bilingual vocabulary; matching of random tokens (dense labels start it); matching of windows of real text,
short ones first, and naming the next token beside it; general relevance from labelled general queries, matching kept in
the mix; an average of the last checkpoints, and one temperature. ``FOLDER`` holds ``NAME/train.jsonl`` files: the text of
all of them feeds matching, labels are used only where NAME begins with "general". Test files and the course's dev and
test topics are never read.
"""

import argparse
import json
import math
import random
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy, log_softmax

from course_utils.data.grid import LANGUAGES, grid_groups, read_grid
from course_utils.data.groups import subset
from course_utils.data.read import read_groups
from course_utils.errors import InputError
from course_utils.evaluation.calibration import fit_temperature
from course_utils.files import replace_folder
from course_utils.machine import has_fast_bf16
from course_utils.model import prompt
from course_utils.model.forward import _decoder_of, _Segment, _shared_forward, _yes_minus_no, pad_rows
from course_utils.model.reranker import Reranker
from course_utils.ship.folders import chat_template

SHAPE = {"hidden_size": 128, "num_hidden_layers": 6, "intermediate_size": 384, "vocab_size": 10_000}
HEAD = 32
SAVE_SECONDS = 60
LANGUAGE = 0.25  # weight of naming the next token; random tokens have none to name
MEANING = 48  # dimensions of an embedding that start from co-occurrence; the rest starts at random
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
CHAT_TEMPLATE = chat_template()


def sources(text_folder, data_folder=None):
    """Return (texts, general groups) that the recipe may see: train files and train topics only.

    Args:
        text_folder: folder of ``NAME/train.jsonl`` files, or None for the course's own data alone.
        data_folder: the course's data; default: the bundled one.
    """
    texts, groups = {}, []
    for path in sorted(Path(text_folder).glob("*/train.jsonl")) if text_folder else []:
        own = read_groups(path, drop_repeated=True)
        texts.update(dict.fromkeys(d for g in own for d in g.documents))
        if path.parent.name.startswith("general"):
            groups += own
    for language in LANGUAGES:
        grid = read_grid("general", language, data_folder)
        texts.update(dict.fromkeys(p.text for p in grid.passages.values() if grid.splits[p.topic] == "train"))
        groups += grid_groups(grid, "train")
    return list(texts), groups


def train_tokenizer(texts, size):
    """Return a fast byte-level BPE tokenizer: lower case, one token per common Chinese character, Qwen's special tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    han = r"[\p{Han}]"
    pattern = rf"{han}|\n+| ?[^\s\p{{L}}\p{{N}}]|\p{{N}}{{1,4}}| ?[\p{{L}}&&[^\p{{Han}}]]+| +"
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIALS),
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    frame = [prompt.prompt_text("yes no", "yes\nno") for _ in range(2000)]
    core.train_from_iterator([*texts, *frame], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=4096,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS})
    tokenizer.chat_template = CHAT_TEMPLATE
    prompt.yes_no_ids(tokenizer)
    return tokenizer


def new_model(tokenizer, shape=None, seed=0):
    """Return an untrained ``Qwen3ForCausalLM`` of the given shape."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    shape = {**SHAPE, **(shape or {}), "vocab_size": len(tokenizer)}
    heads = shape["hidden_size"] // HEAD
    config = Qwen3Config(
        **shape,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        # Equal queries and keys make a token attend to its own copies from the start: with dense labels, matching then
        # takes off within 10,000 pairs.
        model.get_input_embeddings().weight.normal_(0, shape["hidden_size"] ** -0.5)
        for layer in model.model.layers[:2]:
            layer.self_attn.k_proj.weight.normal_(0, shape["hidden_size"] ** -0.5)
            layer.self_attn.q_proj.weight.copy_(layer.self_attn.k_proj.weight)
    return model


def word_vectors(documents, vocabulary, dimensions, window=6):
    """Return vectors [vocabulary, dimensions] in which tokens that keep the same company are close.

    Positive pointwise mutual information of tokens within ``window`` places, reduced by a truncated singular value
    decomposition. Source: Levy and Goldberg, "Neural word embedding as implicit matrix factorization", NIPS 2014.
    """
    from scipy.sparse import coo_matrix
    from sklearn.decomposition import TruncatedSVD

    counts = None
    for step in range(1, window + 1):
        a = np.concatenate([d[:-step] for d in documents if len(d) > step])
        b = np.concatenate([d[step:] for d in documents if len(d) > step])
        part = coo_matrix((np.full(len(a), 1 / step, dtype=np.float32), (a, b)), (vocabulary, vocabulary)).tocsr()
        counts = part if counts is None else counts + part
    counts = (counts + counts.T).tocoo()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    smooth = totals**0.75 / (totals**0.75).sum()
    pmi = np.log(counts.data / totals[counts.row] / smooth[counts.col])
    keep = pmi > 0
    matrix = coo_matrix((pmi[keep], (counts.row[keep], counts.col[keep])), counts.shape).tocsr()
    vectors = TruncatedSVD(dimensions, random_state=0).fit_transform(matrix)
    vectors /= np.sqrt(np.maximum(1e-6, vectors.std(axis=0)))
    return vectors / np.maximum(1e-6, np.linalg.norm(vectors, axis=1, keepdims=True))


class Matching:
    """Draws queries from windows of token ids: the window a query came from is its right document.

    Args:
        documents: list of 1-D id arrays.
        vocabulary: number of tokens, for noise.
        seed: for everything drawn.
    """

    def __init__(self, documents, vocabulary, seed=0):
        self.documents = [d for d in documents if len(d) >= 8]
        self.vocabulary, self.random = vocabulary, np.random.default_rng(seed)

    def synthetic(self, queries, documents, length):
        """Return groups of random tokens; the query's tokens stand in its right document, few in the others."""
        out = []
        for _ in range(queries):
            rows = self.random.integers(300, self.vocabulary - 8, (documents, length))
            n = int(self.random.integers(2, 6))
            query = self.random.choice(rows[0], n, replace=False)
            if documents > 2:  # a rival that holds half of the query
                rows[1, self.random.permutation(length)[: n // 2]] = query[: n // 2]
            out.append((query, list(rows), [1] + [0] * (documents - 1)))
        return out

    def window(self, low, high):
        """Return (document index, start, ids) of a random window."""
        i = int(self.random.integers(len(self.documents)))
        size = low if low == high else int(self.random.integers(low, high + 1))
        start = int(self.random.integers(0, max(1, len(self.documents[i]) - size)))
        return i, start, self.documents[i][start : start + size]

    def real(self, queries, documents, low, high, noise=0.2):
        """Return groups of windows of real text, with rivals that share words or stand beside the right window."""
        out = []
        low = high = int(self.random.integers(low, high + 1))  # one length a batch: little padding
        pool = [self.window(low, high)[2] for _ in range(48)]
        for _ in range(queries):
            i, start, window = self.window(low, high)
            query, document = self.query_from(window, noise)
            rivals = []
            other = self.documents[i]
            if len(other) > start + 2 * len(window):
                rivals.append(other[start + len(window) : start + 2 * len(window)])
            wanted = set(query.tolist())
            overlap = [len(wanted & set(p.tolist())) + self.random.random() * 0.9 for p in pool]
            best = np.argsort(overlap)[::-1]
            rivals += [pool[b] for b in best[: max(1, documents - 2 - len(rivals))]]
            while len(rivals) < documents - 1:
                rivals.append(pool[int(self.random.integers(len(pool)))])
            out.append((query, [document, *rivals[: documents - 1]], [1] + [0] * (documents - 1)))
        return out

    def query_from(self, window, noise):
        """Return (query ids, document ids): scattered tokens, a span, or a span taken out of the document."""
        kind = self.random.random()
        if kind < 0.5:
            n = int(self.random.integers(2, min(9, len(window))))
            query = window[np.sort(self.random.permutation(len(window))[:n])].copy()
            if self.random.random() < 0.5:
                self.random.shuffle(query)
            document = window
        else:
            n = int(self.random.integers(3, min(13, len(window) - 2)))
            at = int(self.random.integers(0, len(window) - n + 1))
            query, document = window[at : at + n].copy(), window
            if kind > 0.85 and len(window) > 3 * n:
                document = np.concatenate([window[:at], window[at + n :]])
        wrong = self.random.random(len(query)) < noise * self.random.random() * 2
        if wrong.any():
            source = self.window(8, 12)[2]
            query[wrong] = self.random.choice(source, int(wrong.sum()))
        return query, document


class Frame:
    """The official prompt around token ids: system text and instruction shared by all, a query by its documents."""

    def __init__(self, tokenizer):
        def ids(text):
            return tokenizer.encode(text, add_special_tokens=False)

        start = prompt.PREFIX
        self.heads = [
            ids(start) + ids(f"<Instruct>: {instruction}\n<Query>:") for instruction in prompt.INSTRUCTIONS.values()
        ]
        self.between, self.tail = ids("\n<Document>:"), ids(prompt.SUFFIX)

    def segments(self, groups, instruction=0):
        """Return (segments, labels [rows]) for (query, documents, labels) groups of ids."""
        head, head_length = pad_rows([np.array(self.heads[instruction])])
        queries, query_length = pad_rows([np.array([*q, *self.between]) for q, _, _ in groups])
        rows = [np.array([*d, *self.tail]) for _, documents, _ in groups for d in documents]
        documents, length = pad_rows(rows)
        owner = torch.tensor([g for g, (_, documents, _) in enumerate(groups) for _ in documents])
        labels = torch.tensor([x for _, _, own in groups for x in own], dtype=torch.float32)
        zero = torch.zeros(len(groups), dtype=torch.long)
        return (
            [
                _Segment(head, head_length),
                _Segment(queries, query_length, 0, zero),
                _Segment(documents, length, 1, owner),
            ],
            labels,
        )


def dense_targets(segments, skip_query, skip_document):
    """Return (0/1 [rows, length], mask [rows, length]): does this document token occur in the row's query?"""
    queries, documents = segments[1], segments[2]
    steps = torch.arange(queries.values.shape[1])
    real = steps[None] < (queries.lengths - skip_query)[:, None]
    ids = torch.where(real, queries.values, torch.full_like(queries.values, -1))[documents.rows]
    found = (documents.values[:, :, None] == ids[:, None, :]).any(-1).float()
    mask = torch.arange(documents.values.shape[1])[None] < (documents.lengths - skip_document)[:, None]
    return found, mask


class Heads(nn.Module):
    """Two heads that only training needs: one tells matched document tokens, one names the next token.

    The second reads the middle layer and keeps the meaning of tokens alive there. Without it everything but "this token is
    matched" fades: after three layers two tokens of a text had a cosine of 0.78 and the last layers, trained on a trade,
    found little to learn from.
    """

    def __init__(self, hidden):
        super().__init__()
        self.matched = nn.Linear(hidden, 1)
        self.following = nn.Sequential(nn.RMSNorm(hidden), nn.Linear(hidden, hidden))

    def next_token_loss(self, states, documents, skip, embedding, positions=512):
        """Return the cross-entropy of the next token at some places of the documents.

        Args:
            states: middle states of the documents [rows, length, hidden].
            documents: their Segment of ids.
            skip: tokens at the end of each row that are not text.
            embedding: the model's embedding matrix, which is the output matrix too.
            positions: places drawn; all of them would cost as much as the model itself.
        """
        steps = torch.arange(states.shape[1] - 1, device=states.device)
        rows, at = (steps[None] < (documents.lengths - skip - 1)[:, None]).nonzero(as_tuple=True)
        drawn = torch.randperm(len(rows), device=rows.device)[:positions]
        rows, at = rows[drawn], at[drawn]
        logits = self.following(states[rows, at]) @ embedding.T
        return cross_entropy(logits.float(), documents.values[rows, at + 1])


def step_loss(model, heads, frame, groups, yes_no, dense, language=0.0, instruction=0, device="cpu"):
    """Return (loss, share of groups whose right document is first) of one batch.

    Args:
        model: the model in training.
        heads: its Heads.
        frame: a Frame.
        groups: (query ids, [document ids], labels).
        yes_no: token ids of yes and no.
        dense: weight of the dense labels; 0 leaves them out and with them most of the last layer.
        language: weight of naming the next token from the middle layer.
        instruction: which of the course's instructions to use.
        device: where to compute.
    """
    segments, labels = frame.segments(groups, instruction)
    ids = [s.to(device) for s in segments]
    labels = labels.to(device)
    layers = len(_decoder_of(model).layers)
    middle = _shared_forward(model, ids, [2], stop=layers // 2)
    upper = [_Segment(x, s.lengths, s.parent, s.rows) for x, s in zip(middle, ids, strict=True)]
    if dense:
        states = _decoder_of(model).norm(_shared_forward(model, upper, [2], first=layers // 2, stop=layers)[2])
        last = states[torch.arange(len(states)), ids[2].lengths - 1]
    else:
        last = _shared_forward(model, upper, [2], first=layers // 2)[0]
    scores = _yes_minus_no(model, last, *yes_no)
    lists = scores.view(len(groups), -1)
    loss = bce(scores, labels, pos_weight=scores.new_tensor(lists.shape[1] - 1.0))
    loss = loss - log_softmax(lists, dim=1)[:, 0].mean()
    if dense:
        found, mask = dense_targets(segments, len(frame.between), len(frame.tail))
        mask = mask.to(device)
        logits = heads.matched(states).float()[..., 0]
        loss = loss + dense * bce(logits[mask], found.to(device)[mask], pos_weight=logits.new_tensor(5.0))
    if language:
        embedding = model.get_input_embeddings().weight
        loss = loss + language * heads.next_token_loss(middle[2], ids[2], len(frame.tail), embedding)
    with torch.no_grad():
        # Every list of a batch is equally long and starts with its right document.
        right = (scores.view(len(groups), -1).argmax(dim=1) == 0).float().mean()
    return loss, float(right)


# (share of the whole time, name, dense weight, share of labelled lists, shortest window, longest window)
STAGES = [
    (0.05, "random tokens", 2.0, 0.0, 8, 16),
    (0.08, "windows to 20", 1.0, 0.0, 10, 20),
    (0.12, "windows to 40", 0.5, 0.0, 14, 40),
    (0.30, "windows to 110", 0.2, 0.15, 24, 110),
    (0.45, "general relevance", 0.0, 0.6, 24, 110),
]


def stage_at(done):
    """Return the stage in force at ``done`` (0 to 1 of the whole time)."""
    end = 0.0
    for stage in STAGES:
        end += stage[0]
        if done < end:
            return stage
    return STAGES[-1]


def sample_labelled(groups, count, documents, random_):
    """Return ``count`` labelled lists cut to ``documents`` candidates, one of them relevant."""
    out = []
    for g in random_.sample(groups, count):
        query, own, labels = g
        right = random_.choice([i for i, x in enumerate(labels) if x])
        wrong = [i for i, x in enumerate(labels) if not x]
        chosen = [right, *random_.choices(wrong, k=documents - 1)]
        out.append((query, [own[i][:180] for i in chosen], [1] + [0] * (len(chosen) - 1)))
    return out


def build(text_folder, out, minutes=120.0, shape=None, seed=0, device="cpu", data_folder=None, queries=12):
    """Train the base model and write it to ``out``; resumes from ``out``-work when it was interrupted.

    Args:
        text_folder: see ``sources``.
        out: folder for the finished model.
        minutes: training time in all; stages take fixed shares of it.
        shape: changes to SHAPE.
        seed: for weights and sampling.
        device: "cpu" or "cuda".
        data_folder: the course's data.
        queries: queries in a batch of long windows, four documents each; short ones come in larger batches.
    """
    out, work = Path(out), Path(f"{out}-work")
    work.mkdir(parents=True, exist_ok=True)
    texts, general = sources(text_folder, data_folder)
    if not (work / "tokenizer.json").exists():
        size = (shape or {}).get("vocab_size", SHAPE["vocab_size"])
        train_tokenizer([*texts, *(g.query for g in general)], size).save_pretrained(work)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work, local_files_only=True)
    yes_no = prompt.yes_no_ids(tokenizer)
    model = new_model(tokenizer, shape, seed).to(device)
    heads = Heads(model.config.hidden_size).to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    state = {"seconds": 0.0, "step": 0, "log": []}
    if (work / "state.json").exists():
        state = json.loads((work / "state.json").read_text(encoding="utf-8"))
        saved = load_file(work / f"step-{state['step']}.safetensors", device=device)
        with torch.no_grad():
            for i, p in enumerate(parameters):
                p.copy_(saved[f"p{i}"])
                optimizer.state[p] = {
                    "step": torch.tensor(float(state["step"])),
                    "exp_avg": saved[f"m{i}"],
                    "exp_avg_sq": saved[f"v{i}"],
                }
        print(f"resuming at step {state['step']}, {state['seconds'] / 60:.1f} minutes done", flush=True)
    encode = {
        t: np.array(ids)
        for t, ids in zip(
            texts, tokenizer([" " + t for t in texts], add_special_tokens=False)["input_ids"], strict=True
        )
    }

    def ids(text):
        if text not in encode:
            encode[text] = np.array(tokenizer.encode(" " + text, add_special_tokens=False))
        return encode[text]

    labelled = [
        (ids(g.query), [ids(d) for d in g.documents], list(g.relevance))
        for g in general
        if any(g.relevance) and not all(g.relevance)
    ]
    matching = Matching([encode[t] for t in texts], len(tokenizer), seed + state["step"])
    random_ = random.Random(seed + state["step"])
    frame = Frame(tokenizer)
    total = minutes * 60
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(texts)} texts, "
        f"{sum(map(len, matching.documents)) / 1e6:.2f} M tokens, {len(labelled)} labelled lists",
        flush=True,
    )
    started, before = time.time(), state["seconds"]
    saved_at, recent, averages = time.time(), [], []
    if not state["step"]:
        meaning = min(MEANING, model.config.hidden_size // 2)
        vectors = torch.tensor(word_vectors(matching.documents, len(tokenizer), meaning), dtype=torch.float32)
        with torch.no_grad():
            embedding = model.get_input_embeddings().weight
            embedding[:, :meaning] = vectors.to(device) * (meaning / embedding.shape[1]) ** 0.5
    fast = has_fast_bf16(device)
    model.train()
    while (spent := before + time.time() - started) < total:
        done = spent / total
        _, name, dense, share, low, high = stage_at(done)
        rate = 1.5e-3 * min(1.0, (state["step"] + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if random_.random() < share:
            batch = sample_labelled(labelled, max(4, queries // 2), 6, random_)
        elif name == "random tokens":
            batch = matching.synthetic(4 * queries, 3, int(matching.random.integers(low, high + 1)))
        else:
            batch = matching.real(queries if high > 40 else 3 * queries, 4 if high > 40 else 3, low, high)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=fast):
            language = 1e-6 if name == "random tokens" else LANGUAGE
            loss, right = step_loss(model, heads, frame, batch, yes_no, dense, language, random_.randrange(4), device)
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {float(loss)} at step {state['step']} in stage {name}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        state["step"] += 1
        recent.append((float(loss.detach()), right))
        if state["step"] % 50 == 0:
            mean = np.mean(recent, axis=0)
            print(
                f"{spent / 60:6.1f} min  step {state['step']:6d}  {name:18s} loss {mean[0]:.3f}  first {mean[1]:.3f}",
                flush=True,
            )
            state["log"].append([round(spent / 60, 1), name, round(float(mean[0]), 4), round(float(mean[1]), 4)])
            recent = []
        if done > 0.9 and state["step"] % 50 == 0:
            averages.append({n: p.detach().clone() for n, p in model.named_parameters()})
        if time.time() - saved_at > SAVE_SECONDS:
            checkpoint(work, parameters, optimizer, state, before + time.time() - started)
            saved_at = time.time()
    if averages:
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.copy_(torch.stack([a[n] for a in averages]).mean(0))
    checkpoint(work, parameters, optimizer, state, total)
    finish(
        model,
        tokenizer,
        out,
        state,
        {
            "minutes": minutes,
            "seed": seed,
            "device": device,
            "texts": len(texts),
            "labelled_lists": len(labelled),
            "threads": torch.get_num_threads(),
        },
        general,
    )


def checkpoint(work, parameters, optimizer, state, seconds):
    """Write weights and optimizer state, then the pointer to them, so that a kill leaves the last whole one."""
    tensors = {}
    for i, p in enumerate(parameters):
        own = optimizer.state[p]
        tensors |= {f"p{i}": p.detach(), f"m{i}": own["exp_avg"], f"v{i}": own["exp_avg_sq"]}
    state["seconds"] = seconds
    save_file({k: v.contiguous() for k, v in tensors.items()}, work / f"step-{state['step']}.safetensors")
    temporary = work / "state.json.part"
    temporary.write_text(json.dumps(state), encoding="utf-8")
    temporary.replace(work / "state.json")
    for old in work.glob("step-*.safetensors"):
        if old.name != f"step-{state['step']}.safetensors":
            old.unlink()


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


def finish(model, tokenizer, out, state, facts, groups):
    """Calibrate on 200 of ``groups`` and write the model to ``out`` in one move, with its history in training.json."""
    temporary = Path(f"{out}-part")
    shutil.rmtree(temporary, ignore_errors=True)
    reranker = Reranker(model.cpu(), tokenizer, max_length=512, name="nano")
    facts = {**facts, "temperature": round(calibrate(reranker, subset(groups, 200)), 3)}
    reranker.save(temporary)
    facts = {**facts, "steps": state["step"], "stages": [list(s) for s in STAGES], "log": state["log"][::5]}
    (temporary / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    replace_folder(temporary, out)
    print(f"written to {out}", flush=True)


def main(argv=None):
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m course_utils.bonus.nano", description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="folder of NAME/train.jsonl files; default: the course's own data alone")
    parser.add_argument("--out", default="build/nano")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    build(args.text, args.out, args.minutes, seed=args.seed, device="cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
