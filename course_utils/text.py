"""Text without differences that mean nothing: case, width, punctuation, spaces."""

import re
import unicodedata

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNIT = re.compile(rf"[{CJK}]|[^\s{CJK}]+")


class _Plain(dict):
    # For str.translate: letters, marks and digits stay, all else becomes a space; each character is looked up once.
    def __missing__(self, code):
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else 32
        return self[code]


_PLAIN = _Plain()


def normalise(text):
    """Return text without case, punctuation, width and spacing differences, for comparison.

    A space beside a Chinese character means nothing and goes too. Text of punctuation alone stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(folded.translate(_PLAIN).split())
    return re.sub(rf"(?<=[{CJK}]) | (?=[{CJK}])", "", words) or folded.strip()


def _name(text):
    """Return a name as names are compared: without case and outer blanks; a Mac writes accents as characters of their own."""
    return unicodedata.normalize("NFC", text.strip()).casefold()


def _bare(name):
    """Return a number without the zeros before it, "7" of "007"; "" for any other name."""
    return str(int(name)) if re.fullmatch(r"0[0-9]{1,8}", name) else ""


def _columns(text):
    """Return the columns that a terminal gives to a text: a Chinese character takes two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _padded(text, width):
    """Return a text with blanks to ``width`` columns behind it, or before it where ``width`` is negative."""
    blanks = " " * (abs(width) - _columns(text))
    return text + blanks if width > 0 else blanks + text


class _Markdown:
    # What prints as Markdown and is shown as such in a notebook.
    def _repr_markdown_(self):
        return str(self)


def markdown_table(head, rows, left=None):
    """Return a Markdown table as text.

    Args:
        head: headings.
        rows: lists of as many cells, shown by ``str``.
        left: so many columns are set to the left and the others, numbers, to the right; default: all.
    """
    lines = [head, ["---" if left is None or i < left else "---:" for i in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def _units(text):
    """Return the number of words, in Chinese of characters."""
    return len(_UNIT.findall(text))
