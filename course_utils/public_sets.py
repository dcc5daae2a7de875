"""Read public reranking sets in the hub's usual schema: a query, its positive and its negative texts in each row."""

import random
import re
from pathlib import Path

from course_utils.data import Group
from course_utils.errors import InputError

SCHEMA = ("query", "positive", "negative")


def read_public(source, split="test", revision=None, queries=None, negatives=None, seed=0):
    """Return a public reranking set as a list of Group.

    Rows are ``{"query": str, "positive": [str, ...], "negative": [str, ...]}``, the schema of the reranking sets of
    MTEB and C-MTEB. A text in both lists counts as positive; repeated texts count once; the candidates are shuffled
    with ``seed``, so that their order tells nothing. Unlabelled right answers among the negatives are common in such
    sets: read a few before you trust a number.

    Args:
        source: a local folder with JSON, JSON lines or Parquet files, or the name of a set on the hub.
        split: which split; in a folder, files whose name starts with it, or lie in a folder of that name.
        revision: the commit on the hub, 40 hexadecimal digits: a name alone may be other data tomorrow.
        queries: keep at most so many rows, chosen at random with ``seed``; None keeps all.
        negatives: keep at most so many negatives a query, chosen at random with ``seed``; None keeps all.
        seed: for choosing and shuffling.

    Raises:
        InputError: no such folder or split, no network, no pinned revision, other columns, or a row without a query
            or with something else than lists of texts.
    """
    rows = _local(Path(source).expanduser(), split) if Path(source).expanduser().exists() else None
    rows = rows if rows is not None else _hub(str(source), split, revision)
    missing = [c for c in SCHEMA if c not in rows.column_names]
    if missing:
        raise InputError(
            f'{source} ({split}) has no column "{missing[0]}" but {", ".join(rows.column_names[:6])}; '
            f"a reranking set has {', '.join(SCHEMA)}."
        )
    chosen = range(len(rows))
    if queries is not None and queries < len(rows):
        chosen = sorted(random.Random(seed).sample(chosen, queries))
    return [_group(rows[i], f"{source} ({split}) row {i + 1}", negatives, f"{seed}-{i}") for i in chosen]


def _group(row, where, negatives, seed):
    if not isinstance(row["query"], str) or not row["query"].strip():
        raise InputError(f'{where}: field "query" holds no text.')
    texts = {}
    for name in SCHEMA[1:]:
        value = row[name] if row[name] is not None else []
        if not isinstance(value, list) or not all(isinstance(t, str) for t in value):
            raise InputError(f'{where}: field "{name}" is not a list of texts.')
        texts[name] = list(dict.fromkeys(t.strip() for t in value if t.strip()))
    random_ = random.Random(seed)
    right = texts["positive"]
    wrong = [t for t in texts["negative"] if t not in set(right)]
    if not right and not wrong:
        raise InputError(f"{where}: there is neither a positive nor a negative text.")
    if negatives is not None and negatives < len(wrong):
        wrong = random_.sample(wrong, negatives)
    candidates = [(t, 1) for t in right] + [(t, 0) for t in wrong]
    random_.shuffle(candidates)
    return Group(row["query"].strip(), tuple(t for t, _ in candidates), tuple(r for _, r in candidates))


def _local(folder, split):
    from datasets import load_dataset

    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give the folder that holds the set.")
    files = [
        p
        for p in sorted(folder.rglob("*"))
        if p.suffix in (".json", ".jsonl", ".parquet")
        and (re.match(rf"{re.escape(split)}(\W|$)", p.name) or split in p.relative_to(folder).parts[:-1])
    ]
    if not files:
        raise InputError(f'{folder} holds no JSON or Parquet file of the split "{split}", such as {split}.parquet.')
    kinds = {"parquet" if p.suffix == ".parquet" else "json" for p in files}
    if len(kinds) > 1:
        raise InputError(f'{folder} holds the split "{split}" both as JSON and as Parquet; keep one.')
    try:
        return load_dataset(kinds.pop(), data_files=[str(p) for p in files], split="train")
    except Exception as error:  # readers of several libraries, each with errors of its own
        text = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f'{folder}: the split "{split}" cannot be read: {text}') from None


def _hub(name, split, revision):
    from datasets import load_dataset

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f'No set "{name}": it is neither a folder that exists nor a hub name such as "mteb/a-set".')
    if not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise InputError(
            f"{name}: give revision=, the commit (40 hexadecimal digits) shown on its page under Files, History; "
            "a name alone may be other data tomorrow."
        )
    try:
        return load_dataset(name, split=split, revision=revision)
    except Exception as error:  # errors of the connection, of the hub and of the readers
        text = (str(error).splitlines() or [""])[0][:200]
        raise InputError(
            f"{name} at {revision[:8]} cannot be read ({type(error).__name__}: {text}). Without network: download it "
            f"elsewhere with: hf download {name} --repo-type dataset --revision {revision} --local-dir FOLDER, copy "
            "FOLDER here and give its path."
        ) from None
