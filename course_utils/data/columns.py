"""Which column means what, guessed only where it is certain, and the text of a cell."""

import re
from contextlib import contextmanager
from numbers import Real

from course_utils.errors import InputError
from course_utils.language import _
from course_utils.text import CJK, _units

# Role -> names it goes by, without case, spaces and underscores. Sources: the README files of FlagEmbedding, ms-swift,
# sentence-transformers, MTEB, Tevatron and MS MARCO, and what spreadsheets say in English and Chinese.
NAMES = {
    "query": "query question anchor searchquery userquery sentence1 问题 查询 提问 问句 检索词 用户问题",
    "document": "document doc passage paragraph text answer context content sentence2 positive response "
    "文档 段落 文本 内容 答案 回答 正文 文章",
    "relevance": "relevance label grade rating relevant isrelevant isselected rel score similarity "
    "相关性 相关度 标签 是否相关 分数 得分",
    "score": "score scores teacherscore similarity logit 分数 得分",
    "instruction": "instruction task 指令",
    "topic": "topic category subject 主题 类别 分类",
    "positive": "positive pos positives positivepassages positivectxs answer response",
    "negative": "negative neg negatives negativepassages negativectxs hardnegative hardnegatives hardnegativectxs "
    "rejectedresponse",
    "positive_scores": "posscores positivescores",
    "negative_scores": "negscores negativescores",
    "documents": "docs documents passages candidates texts",
    "labels": "labels relevances grades",
}
NAMES = {role: names.split() for role, names in NAMES.items()}
TEXTS = ("passage_text", "content", "contents", "document", "passage")  # fields of a record with the text
SEARCHED = ("body", "message", "description")  # fields of a search engine's record, where none of TEXTS is there
GIVEN = ("query", "document", "relevance", "score", "instruction", "topic", "positive", "negative")


def _key(name):
    return re.sub(r"[\s_\-]", "", str(name)).casefold()


def _blanks(name):
    return " ".join(str(name).split())


def _choices(names):
    return ", ".join(str(n)[:40] for n in list(names)[:8])


class _Unsure(InputError):
    # No column, or one of several, is meant: the role, the columns to choose from, whether their names fit, and a likely one.
    def __init__(self, role, names, fit, likely="...", likely_role=None):
        self.role, self.names, self.fit = role, names, fit
        said = {"role": role, "choices": _choices(names), "likely": likely}
        name_one = _('Name one: columns={{"{role}": "{likely}"}} (--columns "{role}={likely}").')
        name_one = name_one.format(role=likely_role or role, likely=likely)
        text = _("Several columns may be the {role}: {choices}. {name_one}") if fit else _("No column is the {role} for certain; the columns are: {choices}. {name_one}")  # fmt: skip
        super().__init__(text.format(name_one=name_one, **said))


@contextmanager
def _naming(file, records=(), before="", roles=GIVEN):
    """Let errors of the block name the file and a likely column, and arguments and options as they are called.

    Args:
        file: what is read; None names none.
        records: list of (where, dict), for the likely column.
        before: what stands before the names of arguments: "passage_" for those of ``prepare``'s handbook.
        roles: what columns may be named for.
    """
    try:
        yield
    except InputError as error:
        unsure = isinstance(error, _Unsure) and records
        text = str(_advised(error, records, roles) if unsure else error)
        if before:
            option = before.replace("_", "-")
            text = re.sub(r"(?<![a-z_-])(columns|sheet|encoding|separator)(?==)", rf"{before}\1", text)
            text = re.sub(r"--(columns|sheet|encoding|separator)(?![a-z])", rf"--{option}\1", text)
        if file is not None and str(file) not in text:
            text = _("{where}: {text}").format(where=file, text=text)
        error.args = (text,)
        raise


def _advised(unsure, records, roles):
    """Return an _Unsure with a likely column, or an InputError that says that a table seems to have no header."""
    role, likely = _likely(unsure, records, roles)
    rows = [row for _where, row in records[:20]]
    shape = lambda text: re.sub(r"\d+", "0", str(text).strip())  # noqa: E731
    coded = [n for n in rows[0] if re.search(r"[^\W\d_].*\d", n) and all(shape(row.get(n)) == shape(n) for row in rows)]
    words = sorted(_units(_text_of(row.get(likely)) or "") for row in rows)[len(rows) // 2]
    long = 2 * _units(likely) >= max(words, 24 if re.search(f"[{CJK}]", likely) else 12)
    if unsure.fit or not (coded or long):
        return _Unsure(unsure.role, unsure.names, unsure.fit, likely, role)
    return InputError("The first row, {choices}, does not look like a header: put a line with column names above it. If it is a header, name the column: columns={{\"{role}\": \"...\"}} (--columns {role}=COLUMN).", choices=_choices(rows[0]), role=unsure.role)  # fmt: skip


def _likely(unsure, records, roles):
    """Return (role, column): the column with the longest texts, for the query the second of them: the longest is the document.

    Where no column has texts of several words, one with lists of texts holds right answers.
    """
    other = {"query": "document", "document": "query"}.get(unsure.role)
    names = [n for n in unsure.names if unsure.fit or _key(n) not in NAMES.get(other, ())]
    cells = {n: [row[n] for _, row in records if row.get(n) is not None] for n in names}
    # A name such as _index is a machine's, but for a record with a text.
    texts = {
        n: [_text_of(c) or "" for c in own if isinstance(c, dict) or (isinstance(c, str) and n[:1] != "_")]
        for n, own in cells.items()
    }
    counts = {n: sorted(map(_units, own)) for n, own in texts.items()}
    # The median, since a few ids may be texts.
    words = {n: (own[len(own) // 2], sum(own)) for n, own in counts.items() if any(own)}
    best = sorted(words, key=words.get, reverse=True) or ["..."]
    lists = [
        n
        for n, own in cells.items()
        if own and all(isinstance(c, list) and all(isinstance(t, str) for t in c) for c in own)
    ]
    if lists and unsure.role == "document" and "positive" in roles and not (words and words[best[0]][0] >= 3):
        return "positive", lists[0]
    second = unsure.role == "query" and not unsure.fit and len(best) > 1 and len(names) == len(unsure.names)
    few = not second or words[best[1]][0] < 3  # codes, grades and numbers have fewer words
    return unsure.role, best[0] if few else best[1]


def _check_given(columns, names, roles=GIVEN):
    """Raise InputError unless ``columns`` names roles that exist and columns that stand in ``names``.

    A name in ``columns`` that differs in white space alone becomes the one in ``names``.
    """
    same = {_blanks(n): n for n in names}
    for role, column in columns.items():
        if role not in roles:
            raise InputError('"{role}" is no role of a column; the roles are: {given}.', role=role, given=", ".join(roles))  # fmt: skip
        if column not in names:
            column = columns[role] = same.get(_blanks(column), column)
        if column not in names:
            raise InputError('No column is named "{column}"; the columns are: {choices}.', column=column, choices=_choices(names))  # fmt: skip


def _one_of(role, names, given, needed=False):
    """Return the column with a role: the one given, the one of that very name, the only one that fits, or None.

    Raises:
        InputError: several fit, or ``needed`` and none does; the choices are listed.
    """
    if role in given:
        return given[role]
    taken = set(given.values())
    fit = [n for n in names if _key(n) in NAMES[role] and n not in taken]
    exact = [n for n in fit if n == role]
    if len(exact or fit) == 1:
        return (exact or fit)[0]
    if fit or needed:
        raise _Unsure(role, fit or [n for n in names if n not in taken], bool(fit))
    return None


def _numbered(role, names, given):
    """Return all columns of a role that may stand in several: negative, negative_1, negative_2, ..."""
    if role in given:
        return [given[role]]
    return [n for n in names if re.sub(r"\d+$", "", _key(n)) in NAMES[role] and n not in given.values()]


class _Null(str):
    """A cell of a table with a word by which databases say that it is empty."""

    WORDS = frozenset(["NULL", "Null", "null", "\\N", "#N/A", "NaN", "nan"])
    EXCEL = frozenset(["NULL", "\\N"])  # the others are typed there by people


class _Formula:
    """A cell of Excel with a formula whose value the file does not hold; as text it is empty."""

    def __init__(self, path, cell):
        self.said = {"path": path, "cell": cell}

    def __str__(self):
        return ""


def _text_in(cell):
    """Return the ``_text_of`` a cell that holds the text of a query or a document."""
    if isinstance(cell, _Formula):
        raise InputError("{path}: the cell {cell} holds a formula without a value; open the file in Excel and save it.", **cell.said)  # fmt: skip
    return "" if isinstance(cell, _Null) else _text_of(cell)


def _text_of(value):
    """Return the text of a cell, a message or a passage: numbers as they are written, {"title", "text"} joined.

    Returns "" for an empty one and None for what is no text at all.
    """
    if value is None or value != value or isinstance(value, _Formula):  # None or NaN, an empty cell
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return None
    if isinstance(value, Real) and abs(value) != float("inf"):
        return str(int(value)) if value == int(value) else str(value)
    if hasattr(value, "isoformat"):  # a date of a spreadsheet
        return value.isoformat()
    if isinstance(value, dict):
        names = ["text"] if "text" in value else [n for n in TEXTS if n in value]
        names = names or [n for n in SEARCHED if n in value][:1]
        parts = [value.get("title"), *(value[n] for n in names)] if names else []
        return " ".join(p.strip() for p in parts if isinstance(p, str)).strip() if parts else None
    if isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value):
        return _text_of(value[-1].get("content"))  # a chat of one message
    return None
