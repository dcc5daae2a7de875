"""The encoding of a text file: found where it is certain, else an error that lists what fits."""

from contextlib import suppress

from course_utils.errors import InputError

# What spreadsheets of the last decades write.
ENCODINGS = ["cp1252", "cp1250", "cp1251", "gb18030", "big5", "shift_jis", "euc_kr"]


def _decode(raw, name, encoding=None):
    """Return (text, name of the encoding) of the bytes of a file.

    Args:
        raw: bytes.
        name: of the file, for messages.
        encoding: what a person says it is; None finds out: UTF-8, UTF-16 by its mark or by its zeros, else what
            ``charset-normalizer`` is sure of.

    Raises:
        InputError: the bytes are not in that encoding, or several encodings fit.
    """
    encoding = encoding or _utf16(raw)
    if encoding or raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return raw.decode(encoding or "utf-16").removeprefix("\ufeff"), encoding or "utf-16"
        except (UnicodeDecodeError, LookupError) as error:
            raise InputError("{name} is not in {value}: {error}.", name=name, value=encoding or "utf-16", error=error) from None  # fmt: skip
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError as error:
        where = error.start + 1
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        raise InputError(
            "{name}: byte {where} is not UTF-8. Save it as UTF-8, name its encoding (encoding=..., --encoding), or let it be "
            'found out: pip install "reranker-course[files]".',
            name=name,
            where=where,
        ) from None
    matches = list(from_bytes(raw, cp_isolation=ENCODINGS))
    if not matches:
        raise InputError("{name}: byte {where} is not UTF-8, and no usual encoding fits. Save it as UTF-8.", name=name, where=where)  # fmt: skip
    best = matches[0]
    rivals = [
        m for m in matches[1:] if str(m) != str(best) and (m.chaos, -m.coherence) <= (best.chaos, -best.coherence)
    ]
    if rivals:
        fits = "; ".join(f'{m.encoding}: "{_foreign(str(m))}"' for m in [best, *rivals])
        raise InputError("{name} is not UTF-8, and several encodings fit: {fits}. Name the right one: encoding=... (--encoding).", name=name, fits=fits)  # fmt: skip
    return str(best), best.encoding


def _utf16(raw):
    """Return which UTF-16 without a mark the bytes are, by the zeros beside Latin letters, marks and line ends; else None."""
    low, high = raw[::2].count(0), raw[1::2].count(0)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or len(raw) % 2 or not max(low, high) > 20 * min(low, high):
        return None
    if max(low, high) * 5 < len(raw):  # few: in Chinese, or stray ones in UTF-8
        with suppress(UnicodeDecodeError):
            return raw.decode() and None
    return "utf-16-le" if high > low else "utf-16-be"


def _foreign(text):
    # The first stretch that differs between encodings, for a person to read.
    start = next((i for i, c in enumerate(text) if ord(c) > 127), 0)
    return " ".join(text[max(0, start - 10) : start + 20].split())
