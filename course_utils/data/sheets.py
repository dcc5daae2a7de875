"""Where the header of a table stands, and the cells of an Excel file."""

import re

from course_utils.data.columns import NAMES, _blanks, _choices, _Formula, _key
from course_utils.errors import InputError
from course_utils.language import _

_TITLES = 10  # rows of a table among which a header is looked for


def _header_at(table, given=()):
    """Return which of the (number, row of cells) is the header; what stands above it is a title.

    It is the row that holds the columns ``given`` by a person; else one of nothing but known names below narrower rows; else the
    first with several cells, where each row above has its first alone. A table of one column has no fuller row in reach.
    """
    near = [row for _n, row in table[:_TITLES]]
    named = next((i for i, row in enumerate(near) if given and _holds(row, given)), None)
    if named is not None or not near or _known_names(near[0]):
        return named or 0
    counts = [sum(map(_full, row)) for row in near]
    for i, row in enumerate(near):
        if i and _known_names(row) == counts[i] > max(counts[:i]):
            return i
    fuller = next((i for i, count in enumerate(counts) if count > 1), 0)
    return fuller if all(_full(row[0]) for row in near[:fuller]) else 0


def _holds(row, columns):
    return {*map(_blanks, columns)} <= {_blanks(c) for c in row if _full(c)}


def _known_names(row):
    return sum(any(_key(c) in names for names in NAMES.values()) for c in row)


def _skipped(title, top):
    """Return sentences on the rows of a title above the header in row ``top``: one, or none without a title."""
    if not title:
        return []
    shown = _(", ").join(f'"{str(c).strip()[:40]}"' for _n, row in title for c in row if _full(c))
    return [_("skipped above the header in row {top}: {shown}").format(top=top, shown=shown)]


def _excel_cells(path, sheet=None, given=()):
    """Return (header, list of (where, row of cells), sentences on what was read) of an Excel file.

    A title above the header is skipped; merged cells of a column are filled down.

    Raises:
        InputError: broken file, several sheets with data and none named, no such sheet.
    """
    try:
        import openpyxl
    except ImportError:
        raise InputError('{path} is an Excel file; pip install "reranker-course[files]", or save it as CSV UTF-8.', path=path) from None  # fmt: skip
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        for s in book.worksheets:
            s.reset_dimensions()  # what a file says of its size may be wrong, and its further rows would be lost
        read = {s.title: ([_value(c) for c in row] for row in s.iter_rows()) for s in book.worksheets}
        tables = {t: [(i, row) for i, row in enumerate(rows, 1) if any(map(_full, row))] for t, rows in read.items()}
    except Exception as error:  # a broken zip, XML or style: openpyxl has no exception of its own for them
        raise InputError("{path} cannot be read as Excel: {error_0}", path=path, error_0=str(error).splitlines()[0][:100]) from None  # fmt: skip
    filled = [name for name, table in tables.items() if table]
    if sheet is not None and sheet not in tables:
        raise InputError('{path} has no sheet "{sheet}"; its sheets are: {choices}.', path=path, sheet=sheet, choices=_choices(tables))  # fmt: skip
    if sheet is None and len(filled) != 1:
        raise InputError("{path} has {n_filled} sheets with data: {choices}. Name one: sheet=... (--sheet).", path=path, n_filled=len(filled), choices=_choices(filled))  # fmt: skip
    sheet = sheet or filled[0]
    table = tables[sheet]
    if not table:
        raise InputError('{path}: the sheet "{sheet}" is empty.', path=path, sheet=sheet)
    start = _header_at(table, given)
    title, (top, header), table = table[:start], table[start], table[start + 1 :]
    header = [_blanks(c) if _full(c) else "" for c in header]
    # openpyxl tells of merged cells only where it holds the whole book in memory
    with book[sheet]._get_source() as file:
        raw = file.read()
    _mark_formulas(dict(table), raw, path)
    merged = [header[i] for i in _fill_down(dict(table), raw, top) if i < len(header)]
    said = [_('Excel, sheet "{sheet}"').format(sheet=sheet)]
    said += _skipped(title, top)
    if merged:
        said.append(_("merged cells filled down: {names}").format(names=_(", ").join(merged)))
    return header, [(_("row {number}").format(number=i), row) for i, row in table], said


def _value(cell):
    """Return what a cell holds: None for an error like #N/A; a text without Excel's escapes, _x000D_ for a line's end."""
    from openpyxl.utils.escape import unescape

    if isinstance(cell.value, str):
        return None if cell.data_type == "e" else re.sub(r"\r\n?", "\n", unescape(cell.value))
    if isinstance(cell.value, (int, float)) and not isinstance(cell.value, bool):
        shape = re.fullmatch(r"(0+)(?:\.(0+))?", cell.number_format or "")
        shown = f"{cell.value:0{len(shape[0])}.{len(shape[2] or '')}f}" if shape else ""
        if shape and shape[0] != "0" and float(shown) == cell.value:
            return shown  # as people see it, and their questions name it: 007, 1.10
    return cell.value


def _mark_formulas(rows, raw, path):
    """Put a _Formula in place of None in ``rows``, {number: list of cells}, where the sheet has a formula without its value."""
    from openpyxl.utils import column_index_from_string

    tag = rb"(?:\w+:)?"
    value = rb"(?:<%bv ?/>|<%bv></%bv>)?" % (tag, tag, tag)  # Excel writes an empty one for an empty text, and t="str"
    cell = rb'<%bc r="([A-Z]+)(\d+)"([^>]*)><%bf(?:[^>]*/>|[^>]*>[^<]*</%bf>)%b</%bc>' % (tag, tag, tag, value, tag)
    for letters, number, more in re.findall(cell, raw):
        row, i = rows.get(int(number), ()), column_index_from_string(letters.decode()) - 1
        if b't="str"' not in more and i < len(row) and row[i] is None:
            row[i] = _Formula(path, f"{letters.decode()}{int(number)}")


def _fill_down(rows, raw, top):
    """Fill merged cells of ``rows``, {number: list of cells}, below row ``top`` in place; return the columns' places."""
    from openpyxl.utils import column_index_from_string

    merged = re.findall(rb'<(?:\w+:)?mergeCell [^>]*?ref="([A-Z]+)(\d+):[A-Z]+(\d+)"', raw)
    places, last = {}, max(rows, default=0)
    for letters, first, end in merged:
        first, end, i = int(first), min(int(end), last), column_index_from_string(letters.decode()) - 1
        if first > top and first in rows and i < len(rows[first]) and _full(rows[first][i]):
            for row in (rows[n] for n in range(first + 1, end + 1) if n in rows):
                row += [None] * (i + 1 - len(row))
                row[i], places[i] = rows[first][i], None
    return sorted(places)


def _full(cell):
    return cell is not None and bool(str(cell).strip())
