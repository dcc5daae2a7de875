"""A bilingual vocabulary in which common Chinese words are tokens, and an embedding that starts from the teacher."""

import re

import numpy as np

from course_utils.bonus.extra import extra
from course_utils.model import prompt
from course_utils.ship.folders import chat_template

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
HAN = r"[\p{Han}]+"
MARK = "\u0001"  # ends a Chinese word while the vocabulary is learnt; never in a text
PATTERN = rf"{HAN}|\n+| ?[^\s\p{{L}}\p{{N}}]|\p{{N}}{{1,3}}| ?[\p{{L}}&&[^\p{{Han}}]]+| +"
MEANING, RANDOM = 168, 23  # dimensions from the teacher and random ones; the last one tells how rare a token is
WIDTH = MEANING + RANDOM + 1


def segmented(text):
    """Return ``text`` with a MARK after each Chinese word (jieba), so that no token crosses the end of a word."""
    jieba = extra("jieba")
    jieba.setLogLevel(60)
    return re.sub(r"[\u4e00-\u9fff]+", lambda m: MARK.join(jieba.cut(m[0])), text)


def train_tokenizer(texts, size):
    """Return a fast byte-level BPE tokenizer for lower-cased English and Chinese.

    Merges are learnt inside words; afterwards a run of Chinese characters is one piece, and the merges find the words
    in it by themselves. "yes" and "no" are single tokens, and Qwen's special tokens are there.

    Args:
        texts: str, as many as memory holds.
        size: number of tokens, special ones included.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def cutter(*before):
        split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*before, split, level])

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = cutter(pre_tokenizers.Split(MARK, behavior="removed"))
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIALS), special_tokens=[], min_frequency=3, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    frame = [prompt.prompt_text("yes no", "yes\nno") for _ in range(2000)]
    core.train_from_iterator([*map(segmented, texts), *frame], trainer)
    core.pre_tokenizer = cutter()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left", model_max_length=4096,
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS})
    tokenizer.chat_template = chat_template()
    prompt.yes_no_ids(tokenizer)
    return tokenizer


def token_texts(tokenizer):
    """Return the text of every token, "" where its bytes are no whole characters or nothing but space."""
    out = []
    for i in range(len(tokenizer)):
        text = tokenizer.decode([i]).strip()
        out.append("" if "\ufffd" in text or text in SPECIALS else text)
    return out


def embedding(texts, vectors, counts, seed=0):
    """Return the start of the embedding matrix [tokens, WIDTH], rows of length 1.

    The teacher's vectors point all one way: their mean is taken out. Then the directions in which they differ most are
    kept, the strongest a little flattened, as in Mu and Viswanath, "All-but-the-top", arXiv 1702.01417.

    Args:
        texts: text of each token, "" for those without a meaning of their own.
        vectors: the teacher's vectors of the tokens with a text, in order [known, 384].
        counts: how often each token stands in the training text [tokens].
        seed: for the random part.
    """
    draw = np.random.default_rng(seed)
    known = np.array([bool(t) for t in texts])
    weight = np.sqrt(np.minimum(counts[known] + 1, np.quantile(counts, 0.95)))[:, None]
    centred = vectors - (vectors * weight).sum(0) / weight.sum()
    values, axes = np.linalg.eigh((centred * weight).T @ centred / weight.sum())
    values, axes = values[::-1][:MEANING], axes[:, ::-1][:, :MEANING]
    meaning = centred @ axes / values**0.25
    meaning /= np.linalg.norm(meaning, axis=1, keepdims=True)
    out = draw.normal(0, WIDTH**-0.5, (len(texts), WIDTH))
    out[known, :MEANING] = meaning * (MEANING / WIDTH) ** 0.5
    rare = -np.log(counts + 1.0)
    out[:, -1] = 0.12 * (rare - rare.mean()) / rare.std()
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)
