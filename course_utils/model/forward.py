"""A layer-by-layer forward pass in which candidates share the tokens they have in common.

Causal attention never looks ahead, so the states of the system text, the instruction and the query are the same for
every candidate document of a query. They are computed once; the documents attend to their keys and values. On the last
layer only the last token is needed, and of the output matrix only the rows of "yes" and "no".

Works for decoders built like Llama and Qwen (``SUPPORTED``): other models go through their own forward pass.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import embedding, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from course_utils.model.batches import _bucket_ends

SUPPORTED = {"qwen3", "qwen2", "llama", "mistral", "smollm3"}


@dataclass
class _Segment:
    """Rows of tokens that continue rows of an earlier segment.

    Attributes:
        values: token ids [rows, length] or states [rows, length, hidden]; right-padded.
        lengths: number of real tokens of each row [rows]; may be 0.
        parent: index of the segment that these rows continue, or None for a segment that starts prompts.
        rows: for each row, the row of the parent that it continues [rows].
    """

    values: torch.Tensor
    lengths: torch.Tensor
    parent: int | None = None
    rows: torch.Tensor | None = None

    def to(self, device):
        """Return the same segment on ``device``."""
        rows = None if self.rows is None else self.rows.to(device)
        return _Segment(self.values.to(device), self.lengths.to(device), self.parent, rows)


def _decoder_of(model):
    """Return the module that holds ``layers`` and the final norm, also under a peft wrapper."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return model.get_decoder()


def _supports_sharing(model):
    """Return whether ``shared_forward`` knows this architecture (full attention in every layer)."""
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    return config.model_type in SUPPORTED and set(kinds) == {"full_attention"}


def _layout(segments, leaves, dtype):
    """Return (positions, masks, ends) of a tree of segments: where each token stands in its prompt, what it may look at.

    All are the same for every layer. positions and masks have one tensor a segment; ends is {leaf: mask of its last tokens}.
    """
    # valid: for each segment, which of the keys [rows, past + length] are real tokens and no padding.
    # starts: for each segment, the position of its first token in the whole prompt [rows].
    positions, masks, ends, valid, starts = [], [], {}, [], []
    for i, segment in enumerate(segments):
        length = segment.values.shape[1]
        device = segment.values.device
        steps = torch.arange(length, device=device)
        own = steps[None] < segment.lengths[:, None]  # [rows, length]; rows are padded on the right
        causal = steps[:, None] >= steps[None]  # [length, length]; a token sees itself and what stands before it
        if segment.parent is None:
            # A root starts at position 0. Padding comes after all real tokens, so the causal mask hides it already.
            start = torch.zeros_like(segment.lengths)
            masks.append(_additive(causal[None, None], dtype))
            valid.append(own)
        else:
            parent = segments[segment.parent]
            # A child goes on where the real tokens of its row of the parent end, whatever padding stands there.
            start = (starts[segment.parent] + parent.lengths)[segment.rows]
            past = valid[segment.parent][segment.rows]  # [rows, past]: the parent's keys, padding marked
            valid.append(torch.cat([past, own], dim=1))
            # Each of its tokens sees all of the past and, causally, its own segment: [rows, length, past + length].
            allowed = torch.cat([past[:, None].expand(-1, length, -1), causal.expand(len(own), -1, -1)], dim=2)
            if i in leaves:
                # On the last layer only the last real token asks: one line of the mask a row, [rows, 1, 1, past + length].
                at = segment.lengths - 1
                last = allowed[torch.arange(len(at), device=device), at]
                ends[i] = _additive(last[:, None, None], dtype)
            masks.append(_additive(allowed[:, None], dtype))
        # Positions are those of the unshared prompt, so that the rotary angles are the same.
        starts.append(start)
        positions.append(start[:, None] + steps[None])
    return positions, masks, ends


def _additive(allowed, dtype):
    """Return 0 where a look is allowed and minus infinity where not, to be added to attention scores."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, float("-inf"))


def _rotate(x, cos, sin):
    """Turn x [rows, heads, length, size] by the angles of its positions; cos and sin: [rows, length, size]."""
    half = x.shape[-1] // 2
    return x * cos[:, None] + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin[:, None]


def _taken(past, rows):
    """Return past[rows]; on a CPU the backward pass of a look-up is half as long as that of ``index_select``."""
    if past.device.type != "cpu" or not past.requires_grad:
        return past.index_select(0, rows)
    return embedding(rows, past.flatten(1)).view(-1, *past.shape[1:])


def _heads(x, projection, norm, head_dim):
    """Project states [rows, length, hidden] to heads [rows, heads, length, head_dim]; Qwen3 also normalises them."""
    x = projection(x)
    x = x.view(*x.shape[:-1], -1, head_dim)
    return (norm(x) if norm is not None else x).transpose(1, 2)


def _attend(attention, queries, keys, values, mask):
    """Return the output of attention [rows, length, hidden]: queries [rows, heads, length, size] over keys and values
    [rows, key heads, past + length, size]; several query heads may share one key head."""
    rows, heads, length, size = queries.shape
    groups, repeats = keys.shape[1], heads // keys.shape[1]
    mask, on_cpu = mask.to(queries.dtype), queries.device.type == "cpu"
    if on_cpu and (queries.requires_grad or rows * heads * length * keys.shape[2] < 2**24):
        # On a CPU plain products are faster than the fused kernel, twice so in the backward pass; scores of many tokens by
        # many are left to it, for memory. Query heads of one key head are stacked, so that keys and values are not copied.
        stacked = (queries * attention.scaling).reshape(rows, groups, repeats * length, size)
        weights = (stacked @ keys.transpose(2, 3)).view(rows, groups, repeats, length, -1) + mask[:, :, None]
        weights = weights.softmax(dim=-1).view(rows, groups, repeats * length, -1)
        out = (weights.to(values.dtype) @ values).view(rows, heads, length, size)
    else:
        keys, values = keys.to(queries.dtype), values.to(queries.dtype)
        if repeats > 1 and not on_cpu:
            # The GPU's fused kernels take a mask, or fewer key heads than query heads, but not both.
            keys, values = keys.repeat_interleave(repeats, dim=1), values.repeat_interleave(repeats, dim=1)
        out = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=attention.scaling, enable_gqa=on_cpu and repeats > 1
        )
    return attention.o_proj(out.transpose(1, 2).flatten(2))


def _finish(layer, states, attended):
    """Return the states after the two residual steps of a layer: attention, then the feed-forward part."""
    states = states + attended
    return states + layer.mlp(layer.post_attention_layernorm(states))


def _run_layer(layer, segments, states, angles, masks, ends, leaves, last):
    """Run one layer over all segments; with ``last`` return only the last token of each leaf."""
    attention = layer.self_attn
    size = attention.head_dim
    q_norm, k_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    past, out = [], []  # past: keys and values of each segment with all that stands before it
    for i, (segment, x) in enumerate(zip(segments, states, strict=True)):
        cos, sin = angles[i]
        normed = layer.input_layernorm(x)  # [rows, length, hidden]
        # Keys and values of the segment's own tokens [rows, key heads, length, size]; keys know their positions.
        keys = _rotate(_heads(normed, attention.k_proj, k_norm, size), cos, sin)
        values = _heads(normed, attention.v_proj, None, size)
        if segment.parent is not None:
            # The sharing: the parent's keys and values were computed once; each row takes those of the row it continues.
            past_keys, past_values = past[segment.parent]
            keys = torch.cat([_taken(past_keys, segment.rows), keys], dim=2)
            values = torch.cat([_taken(past_values, segment.rows), values], dim=2)
        past.append((keys, values))
        if last and i not in leaves:
            out.append(None)  # on the last layer nobody looks at the states of inner segments, only at their keys
            continue
        mask = masks[i]
        if last:
            # Of each row only the last real token is scored: x shrinks to [rows, 1, hidden].
            rows = torch.arange(len(x), device=x.device)
            at = segment.lengths - 1
            x, normed = x[rows, at][:, None], normed[rows, at][:, None]
            cos, sin, mask = cos[rows, at][:, None], sin[rows, at][:, None], ends[i]
        queries = _rotate(_heads(normed, attention.q_proj, q_norm, size), cos, sin)
        attended = _attend(attention, queries, keys, values, mask)
        out.append(_finish(layer, x, attended))
    return out


def _shared_forward(model, segments, leaves, first=0, stop=None, recompute=False):
    """Run decoder layers ``first`` to ``stop`` over a tree of segments.

    Args:
        model: a causal language model for which ``supports_sharing`` is true.
        segments: list of Segment, parents before children. Token ids when ``first`` is 0, else states.
        leaves: indices of the segments whose last tokens are scored. A leaf has a parent.
        first: the first layer to run.
        stop: the layer to stop before. None runs to the end and returns scored states.
        recompute: save memory in training by computing activations again in the backward pass.

    Returns:
        With ``stop``: a list of states [rows, length, hidden], one per segment (padding rows hold no meaning).
        Without: a list of final normed states of the last tokens [rows, hidden], one per leaf in order.
    """
    decoder, to_end = _decoder_of(model), stop is None
    stop = len(decoder.layers) if to_end else stop
    # Token ids [rows, length] become states [rows, length, hidden] by one look-up, whose backward pass fills a gradient as
    # large as the vocabulary with zeros; states of frozen layers come in as they are.
    states = [s.values for s in segments]
    if states[0].dim() == 2:
        found = decoder.embed_tokens(torch.cat([x.flatten() for x in states])).split([x.numel() for x in states])
        states = [own.view(*x.shape, -1) for own, x in zip(found, states, strict=True)]
    # Masks and rotary angles are the same for every layer, so they are made once.
    positions, masks, ends = _layout(segments, set(leaves), states[0].dtype)
    angles = [decoder.rotary_emb(x, p) for x, p in zip(states, positions, strict=True)]
    for i in range(first, stop):
        args = (decoder.layers[i], segments, states, angles, masks, ends, set(leaves), to_end and i == stop - 1)
        if recompute and torch.is_grad_enabled():
            states = checkpoint(_run_layer, *args, use_reentrant=False)
        else:
            states = _run_layer(*args)
    if not to_end:
        return states
    if first >= stop:
        raise ValueError("at least one layer must run to score a prompt")
    return [decoder.norm(states[i][:, 0]) for i in leaves]  # [rows, hidden] a leaf


def _yes_minus_no(model, states, yes_id, no_id):
    """Return logit(yes) - logit(no) in float32 from final states [rows, hidden]: a two-row output matrix."""
    weight = model.get_output_embeddings().weight
    direction = weight[yes_id].float() - weight[no_id].float()
    with torch.autocast(states.device.type, enabled=False):
        return states.float() @ direction


def pad_rows(rows, pad=0):
    """Right-pad 1-D id arrays [length] or 2-D state tensors [length, hidden] to one tensor and their lengths."""
    tensors = [torch.as_tensor(r) for r in rows]
    lengths = torch.tensor([len(t) for t in tensors])
    first = tensors[0]
    dtype = torch.long if first.dim() == 1 else first.dtype
    out = torch.full((len(tensors), max(1, int(lengths.max())), *first.shape[1:]), pad, dtype=dtype)
    for i, t in enumerate(tensors):
        out[i, : len(t)] = t
    return out, lengths


def _bucket_size(device):
    """Return the tokens that one matrix product should see on ``device``.

    A CPU is at full speed from a few hundred rows on, and small buckets pad less and stay in its cache (0.6B shape,
    bf16, documents of 100 words: 143 GFLOP/s with 512, 92 with 4096); a GPU wants thousands.
    """
    return 512 if torch.device(device).type == "cpu" else 4096


def _build_segments(constant, prefixes, candidates, bucket_tokens=512):
    """Arrange queries and their candidates as a tree: constant, then queries, then buckets of documents.

    Documents are put in buckets of similar length so that little padding is computed.

    Args:
        constant: ids [length] or states [length, hidden] that start every prompt.
        prefixes: list of ids or states, one a query.
        candidates: list of lists of ids or states, one list a query.
        bucket_tokens: tokens that a bucket should have, see ``_bucket_ends``.

    Returns:
        (segments, leaves, order): ``order`` lists (query, candidate) in the order of the leaves' rows.
    """
    # Segment 0: one row, the constant. Segment 1: one row a query, all children of that one row.
    segments = [_Segment(*pad_rows([constant]))]
    segments.append(_Segment(*pad_rows(prefixes), 0, torch.zeros(len(prefixes), dtype=torch.long)))
    order = sorted(
        ((g, c) for g, own in enumerate(candidates) for c in range(len(own))),
        key=lambda gc: (len(candidates[gc[0]][gc[1]]), gc),
    )
    # Then buckets of documents, short ones first; a row's parent is the row of its query in segment 1.
    leaves, start = [], 0
    for stop in _bucket_ends([len(candidates[g][c]) for g, c in order], bucket_tokens):
        part = order[start:stop]
        rows = pad_rows([candidates[g][c] for g, c in part])
        segments.append(_Segment(*rows, 1, torch.tensor([g for g, _ in part])))
        leaves.append(len(segments) - 1)
        start = stop
    return segments, leaves, order
