"""The text of a page: of an HTML, Markdown, PDF or plain file."""

import re
from contextlib import suppress
from html.parser import HTMLParser

from course_utils.data.decode import _decode
from course_utils.errors import InputError

# Links, headings, rules, emphasis: their words stay. Signs that may be a minus, a number, "more than" or "times" stay, too.
_MARKDOWN = (
    (r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1"),
    (r"(?m)^ {0,3}#{1,6} +", ""),
    (r"(?m)^ *(?:[-*_] *){3,}$", ""),
    (r"`+(\S(?:[^`\n]*\S)?)`+", r"\1"),
    (r"(?<![A-Za-z0-9*])(\*{1,3})(?=\S)([^*\n]*[^*\s])\1(?![A-Za-z0-9*])", r"\2"),
    (r"(?<!\w)(_{1,2})(\S(?:[^_\n]*\S)?)\1(?!\w)", r"\2"),
)


def _text(file, suffix, encoding=None):
    if suffix == ".pdf":
        return _pdf(file)
    raw = file.read_bytes()
    with suppress(UnicodeDecodeError):  # gb18030 and cp1252 take most bytes of UTF-8 for something else
        encoding = raw.decode() and None
    text = _decode(raw, file, encoding)[0]
    if suffix in (".html", ".htm"):
        page = _Page()
        page.feed(text)
        page.close()
        text = "".join(page.parts)
    if suffix in (".md", ".markdown"):
        for pattern, words in _MARKDOWN:
            text = re.sub(pattern, words, text)
    return re.sub(r"[ \t\xa0]+", " ", re.sub(r"\s*\n\s*\n\s*", "\n\n", text)).strip()


class _Page(HTMLParser):
    # The words of a page; what belongs to a block stands on lines of its own.
    BLOCKS = frozenset([
        "p", "div", "li", "tr", "br", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "table", "ul", "ol", "dt", "dd",
        "blockquote", "pre", "title",
    ])  # fmt: skip
    HIDDEN = frozenset(["script", "style", "noscript", "template", "nav"])

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in self.HIDDEN
        self.parts += ["\n\n"] if tag in self.BLOCKS else []

    def handle_endtag(self, tag):
        self.hidden -= tag in self.HIDDEN and self.hidden > 0
        self.parts += ["\n\n"] if tag in self.BLOCKS else []

    def handle_data(self, data):
        self.parts += [] if self.hidden else [re.sub(r"\s+", " ", data)]


def _pdf(file):
    try:
        import pypdf
    except ImportError:
        raise InputError(
            '{file} is a PDF; pip install "reranker-course[files]", or save it as text.', file=file
        ) from None
    try:
        return "\n".join(page.extract_text() for page in pypdf.PdfReader(file).pages)
    except Exception as error:  # pypdf lets errors of every kind through from broken files
        raise InputError("{file} cannot be read as a PDF: {error}", file=file, error=str(error)[:100]) from None
