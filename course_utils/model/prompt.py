"""The official Qwen3-Reranker prompt: text, token ids, document-only truncation.

A pair becomes ``PREFIX + "<Instruct>: ...\\n<Query>: ...\\n<Document>: ..." + SUFFIX``. The three parts are tokenised
one by one and joined as ids, as the official example does. Source: README "Reranker Model" of QwenLM/Qwen3-Embedding.
"""

from dataclasses import dataclass

import numpy as np

from course_utils.errors import InputError

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

# The model card asks for instructions in English, one per task; these are the course's own.
INSTRUCTIONS = {
    "general": DEFAULT_INSTRUCTION,
    "medical": "Given a health question, retrieve medical passages that answer it",
    "legal": "Given a legal question, retrieve passages of law or legal advice that answer it",
    "financial": "Given a question about money or finance, retrieve passages that answer it",
}


def content_text(query, document, instruction=DEFAULT_INSTRUCTION):
    """Return the user part of the prompt: instruction, query and document, one per line."""
    return f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"


def prompt_text(query, document, instruction=DEFAULT_INSTRUCTION):
    """Return the whole prompt as one string, for reading; scoring works on token ids."""
    return PREFIX + content_text(query, document, instruction) + SUFFIX


def yes_no_ids(tokenizer):
    """Return the token ids of "yes" and "no".

    Raises InputError when either word is not a single token of its own: such a tokenizer cannot carry a judgement.
    """
    ids = []
    for word in ("yes", "no"):
        tokens = tokenizer.encode(word, add_special_tokens=False)
        if len(tokens) != 1:
            raise InputError(f'"{word}" is {len(tokens)} tokens in this tokenizer, not one: choose another base model.')
        ids.append(tokens[0])
    if ids[0] == ids[1] or tokenizer.unk_token_id in ids:
        raise InputError('This tokenizer does not know the words "yes" and "no": choose another base model.')
    return tuple(ids)


def common_prefix_length(rows):
    """Return how many leading ids all rows share. ``rows``: list of lists of int."""
    first, last = min(rows), max(rows)
    for i, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return i
    return min(len(first), len(last))


@dataclass
class EncodedGroups:
    """Token ids of queries with their candidates; ids that several prompts share are kept once.

    The prompt of candidate c of query g is ``constant + prefixes[g] + candidates[g][c]``.

    Attributes:
        constant: 1-D int32 array, the ids that start every prompt (system text and instruction).
        prefixes: one 1-D int32 array a query, the ids its candidates share after ``constant``.
        candidates: one list a query of 1-D int32 arrays; each ends in the suffix.
        truncated: number of documents that were cut.
    """

    constant: np.ndarray
    prefixes: list
    candidates: list
    truncated: int = 0

    def full_ids(self, g, c):
        """Return all token ids of candidate ``c`` of query ``g`` as a list."""
        return [*self.constant.tolist(), *self.prefixes[g].tolist(), *self.candidates[g][c].tolist()]

    def __len__(self):
        return len(self.prefixes)


def as_lists(groups):
    """Return [(query, [document, ...])] of groups: Group objects, or (query, documents) pairs as ``rank`` makes them."""
    pairs = [(g.query, g.documents) if hasattr(g, "documents") else g for g in groups]
    return [(query, list(documents)) for query, documents in pairs]


def encode_groups(tokenizer, groups, instruction=DEFAULT_INSTRUCTION, max_length=8192):
    """Turn groups into token ids, sharing what candidates have in common.

    The ids are exactly those of the official tokenisation of each pair; the longest common *token* prefix is
    shared, so no text is cut in the middle of a token. Only a document is ever truncated.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        groups: list of Group, or of (query, [document, ...]).
        instruction: the task in one English sentence.
        max_length: largest number of tokens of one prompt, prefix and suffix included.

    Returns:
        EncodedGroups.

    Raises:
        InputError: when prompt and query alone leave no room for a document.
    """
    groups = as_lists(groups)
    head = tokenizer.encode(PREFIX, add_special_tokens=False)
    tail = tokenizer.encode(SUFFIX, add_special_tokens=False)
    room = max_length - len(head) - len(tail)
    texts = [content_text(q, d, instruction) for q, documents in groups for d in documents]
    # A document that spells <|im_end|> stays text: it must not close the user's turn and answer in the model's place.
    contents = (
        tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        if texts
        else []
    )
    truncated = 0
    if any(len(ids) > room for ids in contents):
        for query, _ in groups:
            used = len(tokenizer.encode(content_text(query, "", instruction), add_special_tokens=False))
            if used + 8 > room:
                raise InputError(
                    f"max_length {max_length} is too small: prompt and query take {used + len(head) + len(tail)} tokens "
                    f'and leave no room for a document (query "{query[:60]}"). Raise max_length or shorten the query.'
                )
        truncated = sum(len(ids) > room for ids in contents)
    rows, start, shared = [], 0, []
    for _, documents in groups:
        own = [head + ids[:room] for ids in contents[start : start + len(documents)]]
        start += len(documents)
        rows.append(own)
        shared.append(own[0][: common_prefix_length(own)] if len(own) > 1 else None)
    known = [ids for ids in shared if ids is not None] or [own[0] for own in rows] or [head]
    constant = known[0][: common_prefix_length(known)] if len(known) > 1 else head
    # A query with one candidate shares nothing with a sibling: it keeps only what all queries share.
    for own in rows:
        constant = constant[: common_prefix_length([constant, *own])]
    prefixes, candidates = [], []
    for own, common in zip(rows, shared, strict=True):
        common = constant if common is None else common
        prefixes.append(np.array(common[len(constant) :], dtype=np.int32))
        candidates.append([np.array(ids[len(common) :] + tail, dtype=np.int32) for ids in own])
    encoded = EncodedGroups(np.array(constant, dtype=np.int32), prefixes, candidates, truncated)
    assert_suffix(encoded, tail)
    return encoded


def assert_suffix(encoded, tail):
    """Raise AssertionError unless every candidate ends in the suffix ids ``tail``.

    The score is read at the last token; a prompt that lost its suffix would be read at a document token.
    """
    for candidates in encoded.candidates:
        for ids in candidates:
            if ids[-len(tail) :].tolist() != tail:
                raise AssertionError("a prompt lost its suffix: its score would be read at a document token")
