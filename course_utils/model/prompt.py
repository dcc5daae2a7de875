"""The official Qwen3-Reranker prompt: text, token ids, document-only truncation.

A pair becomes ``PREFIX + "<Instruct>: ...\\n<Query>: ...\\n<Document>: ..." + SUFFIX``. The three parts are tokenised
one by one and joined as ids, as the official example does. Source: README "Reranker Model" of QwenLM/Qwen3-Embedding.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from course_utils.errors import InputError

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

LEAST_DOCUMENT = 8  # tokens; a query that leaves fewer for a document is too long

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


def _fingerprint(instruction):
    """Return 16 hex digits of the prompt around a pair; ``Reranker.save`` keeps them, so that a change is noticed."""
    return hashlib.sha256(prompt_text("", "", instruction).encode()).hexdigest()[:16]


def _check_prompt(instruction, max_length):
    """Raise InputError unless both can stand in a saved model: a plain sentence, and 32 to 131,072 tokens."""
    if not isinstance(instruction, str) or not instruction.strip() or len(instruction) > 2000 or "<|" in instruction:
        raise InputError(
            "The instruction must be one sentence of at most 2000 characters without <| marks, such as "
            '"{default_instruction}".',
            default_instruction=DEFAULT_INSTRUCTION,
        )
    if isinstance(max_length, bool) or not isinstance(max_length, int) or not 32 <= max_length <= 2**17:
        raise InputError(
            "max_length is {max_length}; give a whole number of tokens from 32 to {value}.",
            max_length=str(max_length)[:40], value=2**17
        )  # fmt: skip


def yes_no_ids(tokenizer):
    """Return the token ids of "yes" and "no".

    Raises InputError when either word is not a single token of its own: such a tokenizer cannot carry a judgement.
    """
    ids = []
    for word in ("yes", "no"):
        tokens = tokenizer.encode(word, add_special_tokens=False)
        if len(tokens) != 1:
            raise InputError('"{word}" is {n_tokens} tokens in this tokenizer, not one: choose another base model.', word=word, n_tokens=len(tokens))  # fmt: skip
        ids.append(tokens[0])
    if ids[0] == ids[1] or tokenizer.unk_token_id in ids:
        raise InputError('This tokenizer does not know the words "yes" and "no": choose another base model.')
    return tuple(ids)


@dataclass(frozen=True)
class _Cutter:
    """How the three parts of a prompt become ids without a change to the tokenizer that other threads use."""

    size: int  # entries of the vocabulary when this was made
    head: list  # ids of PREFIX, with control tokens
    tail: list  # ids of SUFFIX, with control tokens
    content: object  # tokenizers.Tokenizer in which control tokens are text
    moved: dict  # id in ``content`` -> id in the vocabulary, of added words; mostly empty

    def ids(self, texts):
        """Return one list of ids a text; what looks like a control token becomes the tokens of its letters."""
        found = [e.ids for e in self.content.encode_batch_fast(texts, add_special_tokens=False)]
        return [[self.moved.get(i, i) for i in ids] for ids in found] if self.moved else found


_CUTTERS = WeakKeyDictionary()


def _is_word(token):
    """Return whether an added token is an ordinary word or white space, which belongs to the text, and no mark."""
    return not token.special and all(unicodedata.category(c)[0] in "LMN" or c.isspace() for c in token.content)


def _cutter(tokenizer):
    """Return the _Cutter of a fast Hugging Face tokenizer.

    A tokenizer first looks for its added tokens (<|im_end|>, <think>, <tool_call> ...) in the text, then cuts the rest
    with its model. The rest, rules and vocabulary, is shared here (3 microseconds, no memory); the added tokens stay
    out for content. ``split_special_tokens=True`` would miss those that are not "special", as <think> in the real
    vocabulary, and it is a switch on the tokenizer that another thread may turn in between.
    """
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        raise InputError("This model has no fast tokenizer (tokenizer.json): choose another base model.")
    known = _CUTTERS.get(tokenizer)
    if known is None or known.size != core.get_vocab_size():
        added = [token for _, token in sorted(core.get_added_tokens_decoder().items())]
        full, content = _bare(core), _bare(core)
        full.add_tokens(added)
        words = [token for token in added if _is_word(token)]
        content.add_tokens(words)
        moved = {content.token_to_id(t.content): core.token_to_id(t.content) for t in words}
        if any(full.token_to_id(t.content) != core.token_to_id(t.content) for t in added):
            full = type(core).from_str(core.to_str())  # ids with gaps between: a whole copy, slower to make
            full.no_truncation()
            full.no_padding()
        head, tail = (full.encode(text, add_special_tokens=False).ids for text in (PREFIX, SUFFIX))
        known = _CUTTERS[tokenizer] = _Cutter(core.get_vocab_size(), head, tail, content, moved)
    return known


def _bare(core):
    """Return a tokenizer with the vocabulary and the rules of ``core`` and without its added tokens and settings."""
    bare = type(core)(core.model)
    if core.normalizer is not None:
        bare.normalizer = core.normalizer
    if core.pre_tokenizer is not None:
        bare.pre_tokenizer = core.pre_tokenizer
    return bare


def _queries_too_long(queries, tokenizer, instruction=DEFAULT_INSTRUCTION, max_length=8192):
    """Return the set of those queries that leave fewer than ``LEAST_DOCUMENT`` tokens for a document."""
    cut = _cutter(tokenizer)
    room = max_length - len(cut.head) - len(cut.tail) - LEAST_DOCUMENT
    # No token is shorter than a byte: most queries are settled without the tokenizer.
    texts = {query: content_text(query, "", instruction) for query in queries}
    unsure = [query for query, text in texts.items() if len(text.encode()) > room]
    return {query for query, ids in zip(unsure, cut.ids([texts[q] for q in unsure]), strict=True) if len(ids) > room}


def _common_prefix_length(rows):
    """Return how many leading ids all rows share. ``rows``: list of lists of int."""
    first, last = min(rows), max(rows)  # all others lie between the two in alphabetical order
    for i, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return i
    return min(len(first), len(last))


@dataclass
class _EncodedGroups:
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


class _Asked(tuple):
    """(query, [document, ...]) with the instruction of its own in ``instruction``; "" where it has none."""

    instruction = ""


def _as_lists(groups):
    """Return [(query, [document, ...])] of groups: Group objects, or (query, documents) pairs as ``rank`` makes them.

    An instruction of a group's own stands in the attribute ``instruction`` of its pair.

    Raises:
        InputError: when a query or a document is no text, or one text stands where a list of documents is meant.
    """
    out = []
    for group in groups:
        try:
            query, documents = (group.query, group.documents) if hasattr(group, "documents") else group
        except (TypeError, ValueError):
            raise InputError("Give groups or (query, [document, ...]) pairs, not {group!r}.", group=str(group)[:60]) from None  # fmt: skip
        if not isinstance(query, str):
            raise InputError("A query is {query!r:.60}, not text; leave it out or give its text.", query=query)
        if isinstance(documents, str):
            raise InputError('The documents of "{query}" are one text; give a list of texts.', query=query[:60])
        documents = list(documents)
        for i, document in enumerate(documents):
            if not isinstance(document, str):
                raise InputError(
                    'Document {i} of "{query}" is {document!r:.60}, not text; leave it out or give its text.',
                    i=i, query=query[:60], document=document
                )  # fmt: skip
        out.append(_Asked((query, documents)))
        out[-1].instruction = getattr(group, "instruction", "")
    return out


def _encode_groups(tokenizer, groups, instruction=DEFAULT_INSTRUCTION, max_length=8192):
    """Turn groups into token ids, sharing what candidates have in common.

    The ids are exactly those of the official tokenisation of each pair, except that control tokens spelt out in a
    query or a document stay text. The longest common *token* prefix is shared, so no text is cut in the middle of a
    token. Only a document is ever truncated. Changes nothing in ``tokenizer``, so threads may share it.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        groups: list of Group, or of (query, [document, ...]).
        instruction: the task in one English sentence, for groups without one of their own.
        max_length: largest number of tokens of one prompt, prefix and suffix included.

    Returns:
        EncodedGroups.

    Raises:
        InputError: when prompt and query alone leave no room for a document, or something is no text.
    """
    groups, cut = _as_lists(groups), _cutter(tokenizer)
    asked = [group.instruction or instruction for group in groups]
    for own in set(asked) - {instruction}:
        _check_prompt(own, max(32, max_length))
    head, tail = cut.head, cut.tail
    # 1. One text a pair, from "<Instruct>" to the end of the document; all of them through the tokenizer at once.
    room = max_length - len(head) - len(tail)
    contents = cut.ids(
        [content_text(q, d, own) for (q, documents), own in zip(groups, asked, strict=True) for d in documents]
    )
    # 2. Back into one list of rows a query, each cut at the end of its document: head + content[:room].
    rows, start, truncated = [], 0, 0
    for (query, documents), told in zip(groups, asked, strict=True):
        own = contents[start : start + len(documents)]
        start += len(documents)
        if any(len(ids) > room for ids in own):
            _check_query(query, tokenizer, told, max_length)
            truncated += sum(len(ids) > room for ids in own)
        rows.append([head + ids[:room] for ids in own])
    # 3. What all documents of a query have in common: its prefix. One document alone has nobody to share with (None).
    shared = [own[0][: _common_prefix_length(own)] if len(own) > 1 else None for own in rows]
    # 4. What all queries have in common: the constant. It starts every row, those without a prefix included.
    known = [ids for ids in shared if ids is not None] or [own[0] for own in rows if own] or [head]
    constant = known[0][: _common_prefix_length(known)] if len(known) > 1 else head
    for own in rows:
        constant = constant[: _common_prefix_length([constant, *own])]
    # 5. Each row in three pieces: constant | rest of the query's prefix | rest of the document + suffix.
    prefixes, candidates = [], []
    for own, common in zip(rows, shared, strict=True):
        common = constant if common is None else common
        prefixes.append(np.array(common[len(constant) :], dtype=np.int32))
        candidates.append([np.array(ids[len(common) :] + tail, dtype=np.int32) for ids in own])
    return _EncodedGroups(np.array(constant, dtype=np.int32), prefixes, candidates, truncated)


def _check_query(query, tokenizer, instruction, max_length):
    if _queries_too_long([query], tokenizer, instruction, max_length):
        raise InputError(
            'max_length {max_length} is too small: prompt and query leave no room for a document (query "{query}"). '
            "Raise max_length (--max-length) or shorten the query.",
            max_length=max_length, query=query[:60]
        )  # fmt: skip
