"""Choose the queries and passages that the teacher labels, and keep everything held out away from them.

An item is ``{"queries", "passage", "field", "language", "source"}``. Queries are titles, questions, terms, or a
sentence taken out of the passage (the inverse cloze task: Lee et al., "Latent retrieval for weakly supervised open
domain question answering", arXiv 1906.00300).
"""

import gzip
import json
import random
import re
from pathlib import Path

from course_utils.bonus.extra import extra
from course_utils.data.grid import DATA, DOMAINS, LANGUAGES, read_grid
from course_utils.data.read import read_groups
from course_utils.errors import InputError

RUN = 40  # a shared run of so many letters is a leak
SHORT = 20  # a shorter text of at least so many is one when it stands in a held-out text
# file: items wanted of 16,000; the rest of a file is left
QUOTAS = {
    "medical-en": 1700, "medical-zh": 1500, "legal-en": 1400, "legal-zh": 1800, "finance-en": 1700, "finance-zh": 1100,
    "general-en": 1500, "general-zh": 1700, "pairs-zh": 1300, "glossary-en": 900, "real-train": 3400,
}  # fmt: skip
# file: megabytes of text that the vocabulary is learnt from
MEGABYTES = {
    "medical-en": 4, "medical-zh": 5, "legal-en": 3, "legal-zh": 4, "finance-en": 5, "finance-zh": 3, "general-en": 8,
    "general-zh": 11, "glossary-en": 3, "real-train": 9,
}  # fmt: skip
FRAMES = {
    "en": ["what is {}?", "{} explained", "how does {} work?", "tell me about {}", "why is {} important?", "what are {}?"],
    "zh": ["什么是{}？", "{}是什么意思", "{}怎么办？", "{}有哪些规定？", "请问{}", "如何理解{}？"],
}  # fmt: skip


def plain(text):
    """Return letters and digits of ``text`` in lower case, Traditional characters made Simplified."""
    return re.sub(r"[\W_]+", "", simplified(text.lower()))


def simplified(text, _converter=[]):  # noqa: B006 - one converter a process
    """Return ``text`` with Simplified characters."""
    if text.isascii():
        return text
    if not _converter:
        _converter.append(extra("opencc").OpenCC("t2s"))
    return _converter[0].convert(text)


def held_out_texts(real_folder=None, data_folder=None):
    """Return the texts that training must not see: real test files, the course's dev and test topics, all of its trades.

    Of a trade nothing may be seen: no topic of its grid and no line of its further files (``cases.md``, ``long.md``).

    Args:
        real_folder: folder of ``NAME/test.jsonl`` files, or None.
        data_folder: the course's data; default: the bundled one.
    """
    out = set()
    for path in sorted(Path(real_folder).glob("*/test.jsonl")) if real_folder else []:
        for g in read_groups(path):
            out |= {g.query, *g.documents}
    for domain in DOMAINS:
        for language in LANGUAGES:
            grid = read_grid(domain, language, data_folder)
            away = {t for t, s in grid.splits.items() if s != "train" or domain != "general"}
            out |= {q.text for q in grid.queries if q.topic in away}
            out |= {p.text for p in grid.passages.values() if p.topic in away}
            for name in ("cases.md", "long.md"):
                path = Path(data_folder or DATA) / domain / language / name
                lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
                out |= {re.sub(r"^(#+|=|-( ~\w+)?) |( *\{[^{}]*\})+$", "", line.strip()) for line in lines}
    return out - {""}


class HeldOut:
    """Says whether a text is one of ``held_out_texts`` or shares a run of letters with one.

    ``asked`` holds the train queries of real trades: no query may equal one (their documents may serve as text).

    Args:
        real_folder: as in ``held_out_texts``.

    Raises:
        InputError: without the package opencc, which makes Traditional characters Simplified.
    """

    def __init__(self, real_folder=None):
        self.texts = {plain(t) for t in held_out_texts(real_folder)} - {""}
        found = sorted(Path(real_folder).glob("*/train.jsonl")) if real_folder else []
        trades = [p for p in found if not p.parent.name.startswith("general")]
        self.asked = {plain(g.query) for p in trades for g in read_groups(p)}
        self.joined = "\n".join(sorted(self.texts))
        self.runs = {hash(t[i : i + RUN]) for t in self.texts for i in range(len(t) - RUN + 1)}

    def has(self, text):
        """Return whether ``text`` equals a held-out text, shares a run of RUN letters with one, or is a piece of one."""
        own = plain(text)
        if own in self.texts or any(hash(own[i : i + RUN]) in self.runs for i in range(len(own) - RUN + 1)):
            return True
        return SHORT <= len(own) < RUN and own in self.joined


def sentences(text):
    """Return the sentences of ``text``, ends kept."""
    return [s for s in re.split(r"(?<=[。！？；])|(?<=[.!?]) +", text) if s.strip()]


def language_of(text):
    """Return "zh" where at least a fifth of the characters is Chinese, else "en"."""
    return "zh" if sum("\u4e00" <= c <= "\u9fff" for c in text) * 5 >= len(text) else "en"


def cut(text, language, draw):
    """Return a passage of ``text``: it starts at a sentence and is mostly short, now and then long."""
    parts = sentences(text)
    start = draw.randrange(len(parts)) if draw.random() < 0.3 and len(parts) > 2 else 0
    text = ("" if language == "zh" else " ").join(p.strip() for p in parts[start:])
    long = draw.random() < 0.12
    if language == "zh":
        return text[: draw.randint(120, 230) if long else draw.randint(28, 100)]
    return " ".join(text.split()[: draw.randint(70, 115) if long else draw.randint(16, 60)])


def item(row, field, draw, title_allowed=True):
    """Return the item of one line of text, or None where nothing can be asked about it."""
    text, title = row["text"].strip(), row["title"].strip() if title_allowed else ""
    if row["source"].endswith("-t"):
        text, title = simplified(text), simplified(title)
    language = language_of(text)
    passage, queries = cut(text, language, draw), []
    if title:
        short = title.split("：")[-1].split(": ")[-1] if draw.random() < 0.5 else title
        framed = len(short) < 50 and not re.search(r"[?？]", short) and draw.random() < 0.35
        queries.append(draw.choice(FRAMES[language]).format(short) if framed else short)
    own = [s for s in sentences(passage)[:-1] if 8 <= len(s) <= (40 if language == "zh" else 140)]
    if own and (not queries or draw.random() < 0.35):
        sentence = draw.choice(own)
        queries.append(sentence.strip().rstrip("。.；"))
        if draw.random() < 0.6:
            passage = passage.replace(sentence, "", 1).strip()
    if not queries or len(passage) < (12 if language == "zh" else 30):
        return None
    return {"queries": queries, "passage": passage, "field": field, "language": language, "source": row["source"]}


def read_rows(path):
    """Return the lines of a gzipped JSONL file; those under a non-commercial licence are left out."""
    if not path.is_file():
        raise InputError(
            "There is no {path}; --text is a folder that holds {quotas}, each .jsonl.gz.",
            path=path,
            quotas=", ".join(QUOTAS),
        )
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [r for r in rows if "-nc" not in r["source"]]


def choose(text_folder, real_folder, seed=0):
    """Return a shuffled list of items from ``text_folder``, none of which touches a held-out text.

    Of train files of real trades the documents may serve as text, their queries may not: those titles are ignored.

    Args:
        text_folder: folder of ``NAME.jsonl.gz`` files with title, text and source.
        real_folder: folder of the real sets whose test files are held out.
        seed: for the draw.
    """
    held_out, out, draw = HeldOut(real_folder), [], random.Random(seed)
    for name, quota in QUOTAS.items():
        rows = read_rows(Path(text_folder) / f"{name}.jsonl.gz")
        if name.endswith("zh") and name != "pairs-zh":  # enough Simplified text; where there is none it is converted
            rows = [r for r in rows if not r["source"].endswith("-t")]
        draw.shuffle(rows)
        kept, titles = 0, {}
        for row in rows:
            if kept >= quota:
                break
            titles[row["title"]] = titles.get(row["title"], 0) + 1
            if row["title"] and titles[row["title"]] > 3:
                continue
            real = row["source"].partition("real/")[2]
            field = (real or name).split("-")[0].replace("pairs", "general").replace("glossary", "general")
            own = item(row, field, draw, title_allowed=not real or real.startswith("general"))
            leak = own and any(map(held_out.has, [own["passage"], *own["queries"]]))
            if own and not leak and not {plain(q) for q in own["queries"]} & held_out.asked:
                out.append(own)
                kept += 1
    draw.shuffle(out)
    return out


def vocabulary_texts(text_folder, seed=0):
    """Return texts that the vocabulary is learnt from: paragraphs of all fields, terms and synonyms."""
    draw, out = random.Random(seed), []
    for name, megabytes in MEGABYTES.items():
        rows, size = read_rows(Path(text_folder) / f"{name}.jsonl.gz"), 0
        if name.endswith("zh"):
            rows = [r for r in rows if not r["source"].endswith("-t")]
        draw.shuffle(rows)
        for r in rows:
            out.append(r["text"] if r["source"].startswith("real/") else r["title"] + "\n" + r["text"])
            size += len(out[-1].encode())
            if size > megabytes * 1e6:
                break
    for name, count in (("terms-en-zh", 30_000), ("synonyms-zh", 10_000)):
        with gzip.open(Path(text_folder) / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file]
        out += [simplified(t) for r in draw.sample(rows, min(count, len(rows))) for t in r[:2]]
    return out
