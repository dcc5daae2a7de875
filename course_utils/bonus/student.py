"""The student: an untrained ``Qwen3ForCausalLM`` around the teacher's word vectors, its frame, its throw-away heads."""

import torch
from torch import nn

from course_utils.bonus.vocabulary import MEANING
from course_utils.model import prompt
from course_utils.model.forward import _build_segments, _decoder_of, _Segment, _shared_forward

SHAPE = {"hidden_size": 192, "num_hidden_layers": 6, "intermediate_size": 384}
HEAD = 64
BUCKET = 1024  # tokens that run together: of so small a model, short runs are mostly the cost of calls
STILL = 14  # of the 32 rotations of a head, those from here on hardly turn within 100 tokens
MEANT, MATCHED = 3, 4  # after how many layers the two throw-away heads read


def new_model(tokenizer, embedding, seed=0):
    """Return the untrained model.

    The first two layers start with equal queries and keys that see the teacher's directions, in the rotations that
    position hardly touches: a token attends to tokens of its own meaning before anything is learnt.

    Args:
        tokenizer: see ``vocabulary.train_tokenizer``.
        embedding: start of the embedding [tokens, width], rows of length 1.
        seed: for all other weights.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    heads = SHAPE["hidden_size"] // HEAD
    config = Qwen3Config(
        **SHAPE,
        vocab_size=len(tokenizer),
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
    still = torch.cat([torch.arange(STILL, HEAD // 2), torch.arange(STILL + HEAD // 2, HEAD)])
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.as_tensor(embedding))
        for p in model.model.layers.parameters():
            if p.dim() == 2:
                p.normal_(0, p.shape[1] ** -0.5)
        for layer in model.model.layers:  # branches start small: the residual stream is the teacher's vectors
            layer.self_attn.o_proj.weight.mul_(0.3)
            layer.mlp.down_proj.weight.mul_(0.3)
        for i, layer in enumerate(model.model.layers[:2]):
            keys = layer.self_attn.k_proj.weight.view(heads, HEAD, -1)
            keys.mul_(0.3)
            for h in range(heads):
                first = (h * len(still) + i * 30) % (MEANING - len(still))
                keys[h, still, first : first + len(still)] += torch.eye(len(still))
            layer.self_attn.q_proj.weight.copy_(layer.self_attn.k_proj.weight)
    return model


class Frame:
    """The official prompt around token ids: system text and instruction shared by all, a query by its documents."""

    def __init__(self, tokenizer):
        def ids(text):
            return tokenizer.encode(text, add_special_tokens=False)

        start = prompt.PREFIX
        self.heads = [ids(start) + ids(f"<Instruct>: {i}\n<Query>:") for i in prompt.INSTRUCTIONS.values()]
        self.between, self.tail = ids("\n<Document>:"), ids(prompt.SUFFIX)

    def segments(self, groups, instruction=0, short=False):
        """Return (segments, order) of lists of ids; documents of like length share a segment.

        Args:
            groups: (query ids, [document ids]).
            instruction: which of the course's instructions.
            short: leave out all but the last token of the tail (for first steps, where it is most of the cost).

        Returns:
            segments: constant, queries, then documents; order: (group, document) of all leaf rows [rows, 2].
        """
        tail = self.tail[-1:] if short else self.tail
        queries = [[*q, *self.between] for q, _ in groups]
        documents = [[[*d, *tail] for d in own] for _, own in groups]
        segments, _, order = _build_segments(self.heads[instruction], queries, documents, BUCKET)
        return segments, torch.tensor(order)


class Heads(nn.Module):
    """Two heads that only training needs.

    ``matched`` tells, from each document token after MATCHED layers, how near it is to the query: dense labels start
    the matching. ``meant`` turns the mean of a document's states after MEANT layers into the teacher's vector: it keeps
    meanings alive where the last layers, trained on a trade later, read them.
    """

    def __init__(self, hidden, teacher=384):
        super().__init__()
        self.matched = nn.Sequential(nn.RMSNorm(hidden), nn.Linear(hidden, 1))
        self.meant = nn.Sequential(nn.RMSNorm(hidden), nn.Linear(hidden, teacher))


def forward(model, segments, yes_no):
    """Return (states after MEANT layers, after MATCHED layers, logit(yes) - logit(no)) for all leaves.

    All rows of the embedding are looked up at once: its gradient, as large as the table, is then made once a step.

    Returns:
        two lists of [rows, length, hidden], one entry a leaf; and [all rows].
    """
    leaves, embed = list(range(2, len(segments))), model.get_input_embeddings()
    ids = [s.values.flatten() for s in segments] + [torch.tensor(yes_no)]
    *states, (yes, no) = embed(torch.cat(ids)).split([len(i) for i in ids])

    def follow(states):
        return [_Segment(x, s.lengths, s.parent, s.rows) for x, s in zip(states, segments, strict=True)]

    states = [x.view(*s.values.shape, -1) for x, s in zip(states, segments, strict=True)]
    low = _shared_forward(model, follow(states), leaves, stop=MEANT)
    high = _shared_forward(model, follow(low), leaves, first=MEANT, stop=MATCHED)
    last = _shared_forward(model, follow(high), leaves, first=MATCHED)
    return low[2:], high[2:], torch.cat(last) @ (yes - no)


def text_mask(segment, skip):
    """Return [rows, length]: which places of a segment are text and not tail or padding."""
    return torch.arange(segment.values.shape[1])[None] < (segment.lengths - skip)[:, None]


def nearness(segments, leaf, skip_query, vectors, weights, floor=0.35):
    """Return soft dense labels [rows, length]: how near is a document token to its nearest query token?

    The cosine of the teacher's vectors of the two tokens, 0 below ``floor``, times how rare the query token is: a
    shared "the" proves little. To a label of equality "doctor" and "physician" are strangers, to this one they are not.

    Args:
        segments: see ``Frame.segments``.
        leaf: index of a document segment.
        skip_query: tokens at the end of each query that are frame.
        vectors: the start of the embedding, MEANING columns, rows of length 1 [tokens, MEANING].
        weights: 0 to 1 [tokens].
    """
    queries, documents = segments[1], segments[leaf]
    real = text_mask(queries, skip_query)
    near = torch.einsum("rld,rqd->rlq", vectors[documents.values], vectors[queries.values][documents.rows])
    near = ((near - floor) / (1 - floor)).clamp(0, 1) * (weights[queries.values] * real)[documents.rows][:, None]
    return near.amax(2)


def scores_of(flat, order, groups):
    """Return scores [groups, documents] in the order of the lists, which are equally long, from those of all leaves."""
    rows = torch.empty(len(order), dtype=torch.long)
    rows[order[:, 0] * len(groups[0][1]) + order[:, 1]] = torch.arange(len(order))
    return flat[rows].view(len(groups), -1)


def parameters_by_kind(model, heads):
    """Return (matrices of the layers, everything else but the embedding, the embedding)."""
    matrices = [p for p in _decoder_of(model).layers.parameters() if p.dim() == 2]
    other = [p for n, p in model.named_parameters() if p.dim() == 1] + list(heads.parameters())
    return matrices, other, [model.get_input_embeddings().weight]
