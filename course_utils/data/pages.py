"""The text of a page: of an HTML, Markdown, PDF or plain file."""

import re
from contextlib import suppress
from html.parser import HTMLParser

from course_utils.data.decode import _decode
from course_utils.errors import InputError

_TEXTS = (".txt", ".md", ".markdown", ".html", ".htm", ".pdf")
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
        raw.decode()
        encoding = None
    text = _decode(raw, file, encoding)[0]
    if suffix in (".html", ".htm"):
        text = _page(text)
    if suffix in (".md", ".markdown"):
        for pattern, words in _MARKDOWN:
            text = re.sub(pattern, words, text)
    return _tidy(text)


def _tidy(text):
    return re.sub(r"[ \t\xa0]+", " ", re.sub(r"\s*\n\s*\n\s*", "\n\n", text)).strip()


def _page(text):
    page = _Page()
    page.feed(_ended(text))
    page.close()
    return page.text()


def _without_tags(cell):
    """Return the text of a cell that is a block of HTML; any other cell, such as one that tells of <br>, as it is."""
    start, block = r"(?s)\s*(<!--.*?-->\s*)*<[a-zA-Z][^<>]*>", r"(?is)<(p|div|li|ul|ol|table|h[1-6])\b[^<>]*>.*</\1\s*>"
    html = isinstance(cell, str) and "</" in cell and re.match(start, cell) and re.search(block, cell)
    return _tidy(_page(cell)) if html else cell


def _ended(text):
    """Return a page in which a <style> or <script> that nothing ends stops where the head does: it would take the page."""
    for tag in ("style", "script"):
        marks = [*re.finditer(rf"(?i)<(/?){tag}\b", text)]
        end = re.compile(r"(?i)</head|<body").search(text, marks[-1].end()) if marks and not marks[-1][1] else None
        text = f"{text[: end.start()]}</{tag}>{text[end.start() :]}" if end else text
    return text


class _Page(HTMLParser):
    # The words of a page; what belongs to a block stands on lines of its own, cells of a row beside each other.
    BLOCKS = frozenset([
        "p", "div", "li", "tr", "br", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "table", "ul", "ol", "dt", "dd",
        "blockquote", "pre", "title", "option", "button", "label", "header", "main", "aside", "footer", "caption", "summary",
        "figcaption", "form",
    ])  # fmt: skip
    CODE = frozenset(["script", "style"])
    HIDDEN = CODE | {"noscript", "template", "nav"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.hidden = [], []  # hidden: (tag, how many parts stand before it) of what is open

    def handle_starttag(self, tag, attrs):
        self.hidden += [(tag, len(self.parts))] if tag in self.HIDDEN else []
        self._between(tag)

    def handle_endtag(self, tag):
        places = [i for i, (name, _n) in enumerate(self.hidden) if name == tag]
        if places:  # only now is it certain that what was hidden has an end
            self._leave_out(self.hidden[places[-1]][1])
            del self.hidden[places[-1] :]
        self._between(tag)

    def _between(self, tag):
        self.parts += ["\n\n"] if tag in self.BLOCKS else [" "] if tag in ("td", "th") else []

    def _leave_out(self, place):
        self.parts[place:] = [part for part in self.parts[place:] if part == "\n\n"]

    def handle_data(self, data):
        self.parts.append(re.sub(r"\s+", " ", data))

    def text(self):
        """Return the text; a <nav> without an end hides nothing, code without an end does."""
        for tag, place in self.hidden:
            if tag in self.CODE:
                self._leave_out(place)
        return "".join(self.parts)


def _pdf(file):
    try:
        import pypdf
    except ImportError:
        raise InputError('{file} is a PDF; pip install "reranker-course[files]", or save it as text.', file=file) from None  # fmt: skip
    try:
        return "\n".join(page.extract_text() for page in pypdf.PdfReader(file).pages)
    except Exception as error:  # pypdf lets errors of every kind through from broken files
        raise InputError("{file} cannot be read as a PDF: {error}", file=file, error=str(error)[:100]) from None
