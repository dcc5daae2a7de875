"""Score a list of pairs that is longer than memory or patience: results are appended as they come, a stop loses nothing.

Beside the results lies ``RESULTS.about.json``: which weights, instruction and length they were made with.
"""

import hashlib
import json
import time
from contextlib import nullcontext
from itertools import groupby, islice
from pathlib import Path

from tqdm.auto import tqdm

from course_utils import machine
from course_utils.data.long_documents import _score_lists
from course_utils.data.read import check_row
from course_utils.data.records import FIELDS, iter_rows
from course_utils.errors import InputError
from course_utils.files import lock, write_json
from course_utils.model import prompt
from course_utils.model.checkpoint import _weights_hash

_SECONDS = 10  # of work between two appends
_FIRST, _MOST = 64, 8192  # pairs in the first and in the largest append


def score_file(reranker, source, path, progress=True, long_documents="cut"):
    """Score pairs and write one JSON line each, ``{"score": logit, "pair": hash}``, in the order of the input.

    Called again with the same arguments it goes on after the last whole line. Neighbouring pairs with the same query
    share its computation. Under ``accelerate launch`` the processes share the work and the main one writes.

    Args:
        reranker: the Reranker.
        source: an iterable of (query, document), or a file with query and document (see ``data.iter_rows``). Texts of
            a file lose spaces at both ends, as in training.
        path: the results; a .jsonl file.
        progress: show a bar with the time left (no time left for a generator, whose length is not known).
        long_documents: "cut" reads what fits into the prompt, and warns of how many were cut; "passages" scores overlapping
            pieces and keeps the best.

    Returns:
        The number of pairs scored by this call.

    Raises:
        InputError: a bad pair, results that belong to another model or to other pairs, or another run that writes them now.
            Nothing is overwritten.
    """
    path = Path(path)
    if isinstance(source, (str, Path)):
        total = _count(source, reranker)
    else:
        total = len(source) if hasattr(source, "__len__") else None
    rank, _ = machine.join(reranker.device)
    with lock(path, beside=True) if rank == 0 else nullcontext():
        new, cut = _score_into(path, source, reranker, total, progress, long_documents, rank)
    reranker._warn(cut, new)
    return new


def _score_into(path, source, reranker, total, progress, long_documents, rank):
    """Do the work of ``score_file`` while nobody else writes to ``path``; return how many pairs are new and how many cut."""
    made_with = _about(reranker, long_documents)
    if rank == 0:
        _check_about(path, made_with)
    machine.wait()
    pairs = _read_pairs(source)
    done = _skip(path, pairs, cut=rank == 0)
    machine.wait()  # nobody appends before all have read
    bar = tqdm(total=total, initial=done, unit="pair", disable=not progress or rank > 0)
    size, new, cut = _FIRST, 0, 0
    with path.open("a", encoding="utf-8", newline="\n") as out:
        while chunk := list(islice(pairs, size)):
            started = time.perf_counter()
            groups = [(query, [d for _, d in rows]) for query, rows in groupby(chunk, key=lambda pair: pair[0])]
            found = _score_lists(reranker, groups, long_documents)
            scores, cut = [float(s) for own in found for s in own], cut + getattr(found, "truncated", 0)
            if rank == 0:
                lines = (json.dumps({"score": s, "pair": _pair_hash(*p)}) for s, p in zip(scores, chunk, strict=True))
                out.write("".join(line + "\n" for line in lines))
                out.flush()
            new += len(chunk)
            bar.update(len(chunk))
            rate = len(chunk) / (time.perf_counter() - started)
            size = machine.from_main(min(_MOST, 4 * size, max(16, round(rate * _SECONDS))))
    bar.close()
    machine.wait()
    return new, cut


def _read_pairs(source):
    """Yield (query, document) of a file or an iterable of pairs, one at a time.

    Raises:
        InputError: names the row that is not a pair of texts.
    """
    if isinstance(source, (str, Path)):
        for where, row in iter_rows(source, FIELDS[:2]):
            checked = check_row({**row, "relevance": 0} if isinstance(row, dict) else row)
            if isinstance(checked, list):
                raise InputError("{source}, {where}: {text}.", source=source, where=where, text=checked[0].text)
            yield checked[:2]
        return
    for i, pair in enumerate(source, 1):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(t, str) for t in pair):
            raise InputError("Pair {i} is {pair!r}; give (query, document), two texts.", i=i, pair=str(pair)[:60])
        yield tuple(pair)


def _count(source, reranker):
    """Return the number of pairs in a file; raise InputError for one that cannot be scored, before any is."""
    count, how = 0, (reranker.tokenizer, reranker.instruction, reranker.max_length)
    for query, own in groupby(_read_pairs(source), key=lambda pair: pair[0]):
        long = prompt._queries_too_long([query], *how)
        for _, document in own:
            count += 1
            if long:
                reranker.encode([(query, [document])])  # refuses one that would be cut
    return count


def _pair_hash(query, document):
    """Return eight hexadecimal digits that stand for a pair."""
    return hashlib.sha256(json.dumps([query, document]).encode()).hexdigest()[:8]


def _about(reranker, long_documents="cut"):
    # What scores depend on: configuration and weights with their types, the instruction, the length of a prompt.
    made_of = f"{reranker.model.config.to_dict()} {_weights_hash(reranker.model)}"
    return {
        "weights": hashlib.sha256(made_of.encode()).hexdigest()[:16],
        "instruction": reranker.instruction,
        "max_length": reranker.max_length,
        "long_documents": long_documents,
    }


def _check_about(path, made_with):
    # Write the note beside new results, or compare with the one beside those that are there.
    note = path.with_name(path.name + ".about.json")
    if path.exists() and path.stat().st_size:
        try:
            known = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                "{path} exists, but not {name} that tells how it was made; name another file.",
                path=path,
                name=note.name,
            ) from None
        for key, value in made_with.items():
            if known.get(key, "cut" if key == "long_documents" else None) != value:
                raise InputError(
                    "{path} was made with another {key}; name another file or delete it.",
                    path=path,
                    key=key.replace("_", " "),
                )
        return
    write_json(note, made_with)


def _skip(path, pairs, cut):
    """Take from ``pairs`` those whose results are in ``path`` and return how many; cut off half a last line."""
    done = whole = 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                pair = next(pairs, None)
                try:
                    fits = pair is not None and json.loads(line)["pair"] == _pair_hash(*pair)
                except (ValueError, KeyError, TypeError):
                    fits = False
                if not fits:
                    raise InputError(
                        "{path}, line {done} does not belong to pair {done} of this input; name another file.",
                        path=path,
                        done=done + 1,
                    )
                done, whole = done + 1, whole + len(line)
    machine.wait()  # all have read before the file changes
    if cut and path.exists() and path.stat().st_size > whole:
        with path.open("r+b") as file:
            file.truncate(whole)
    return done
