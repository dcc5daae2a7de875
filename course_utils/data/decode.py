"""The encoding of a text file: found where it is certain, else an error that lists what fits."""

import re
from contextlib import suppress

from course_utils.errors import InputError

# What spreadsheets of the last decades write.
ENCODINGS = ["cp1252", "cp1250", "cp1251", "gb18030", "big5", "shift_jis", "euc_kr"]
# More of them, which take nearly any bytes: (name, letters beyond ASCII of its languages, what their texts hardly have,
# what tells them). Greek, Hebrew (final letters stand at the end, points behind a letter), Arabic, Turkish, Lithuanian,
# Latvian, Vietnamese (marks of tone stand behind a vowel).
_MORE = [
    ("cp1253", r"[\u0386-\u03ce]", r"[A-Za-z][\u0386-\u03ce]|[\u0386-\u03ce][A-Za-z]|[\u0390\u03b0]|[\u03ac-\u03ce][\u0386-\u03ab]", r"[\u03ac-\u03af\u03cc-\u03ce]"),
    ("cp1255", r"[א-ת]", r"[A-Za-z][א-ת]|[א-ת][A-Za-z]|[ךםןףץ](?=[א-ת])|(?<![א-ת\u05b0-\u05c4])[\u05b0-\u05c4]", r"[א-ת]"),
    ("cp1256", r"[\u0620-\u06d3]", r"[A-Za-z][\u0620-\u06d3]|[\u0620-\u06d3][A-Za-z]", r"[\u0620-\u06d3]"),
    ("cp1254", r"[çğıöşüâîûÇĞİÖŞÜÂÎÛ]", r"(?!)", r"[ğışĞİŞ]"),
    ("cp1257", r"[ąčęėįšųūžĄČĘĖĮŠŲŪŽ]", r"[¨ˇ¸¯˛]", r"[šžŠŽ]"),
    ("cp1257", r"[āčēģīķļņšūžĀČĒĢĪĶĻŅŠŪŽ]", r"[¨ˇ¸¯˛]", r"[šžŠŽ]"),
    ("cp1258", r"[ăâđêôơưàáãèéìíòóõùúýĂÂĐÊÔƠƯÀÁÃÈÉÌÍÒÓÕÙÚÝ]", r"(?<![AEIOUYaeiouyăâêôơưĂÂÊÔƠƯ])[\u0300\u0301\u0303\u0309\u0323]",
     r"[ăâêôơưĂÂÊÔƠƯ][\u0300\u0301\u0303\u0309\u0323]"),
]  # fmt: skip


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
    wide = matches and matches[0].encoding in ENCODINGS[3:]  # two bytes a character: not taken by chance
    sure = {} if wide else _by_letters(raw, 3)
    if len(sure) == 1:
        encoding, text = sure.popitem()
        return text, encoding
    fit = {m.encoding: str(m) for i, m in enumerate(matches) if i == 0 or (
        str(m) != str(matches[0]) and (m.chaos, -m.coherence) <= (matches[0].chaos, -matches[0].coherence))}  # fmt: skip
    if len(fit) != 1:
        fit |= _by_letters(raw, 1)
    if not fit:
        raise InputError("{name}: byte {where} is not UTF-8, and no usual encoding fits. Save it as UTF-8.", name=name, where=where)  # fmt: skip
    if len(fit) > 1:
        fits = "; ".join(f'{m}: "{_foreign(text, fit.values())}"' for m, text in fit.items())
        raise InputError("{name} is not UTF-8, and several encodings fit: {fits}. Name the right one: encoding=... (--encoding).", name=name, fits=fits)  # fmt: skip
    encoding, text = fit.popitem()
    return text, encoding


def _by_letters(raw, least):
    """Return {encoding: text} of those of ``_MORE`` whose letters the bytes are, ``least`` telling ones or more."""
    found, first = {}, next((i for i, byte in enumerate(raw) if byte > 127), 0)
    some = raw[max(0, first - 100) : first + 200_000]  # one byte a character, and enough to tell
    for encoding, letters, odd, telling in _MORE:
        with suppress(UnicodeDecodeError):
            text = some.decode(encoding)
            own = [c for c in text if ord(c) > 127 and c.isalpha()]
            inside = re.findall(letters, "".join(own))
            tells = len(re.findall(telling, text))
            if tells < least or len(set(own)) <= least:
                continue
            if len(inside) * 50 >= len(own) * 49 and len(re.findall(odd, text)) * 20 <= tells:
                found[encoding] = raw.decode(encoding)
    return found


def _utf16(raw):
    """Return which UTF-16 without a mark the bytes are, by the zeros beside Latin letters, marks and line ends; else None."""
    low, high = raw[::2].count(0), raw[1::2].count(0)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or len(raw) % 2 or not max(low, high) > 20 * min(low, high):
        return None
    if max(low, high) * 5 < len(raw):  # few: in Chinese, or stray ones in UTF-8
        with suppress(UnicodeDecodeError):
            raw.decode()
            return None
        text = raw.decode("utf-16-le" if high > low else "utf-16-be", "replace")
        ends = text.count("\n") == max(low, high) == 1 and text.endswith("\n")
        odd = len(re.findall("[\ue000-\uf8ff\ufffd\ufffe]", text)) * 50 > len(text)
        if odd or (max(low, high) < 2 and not ends):
            return None
    return "utf-16-le" if high > low else "utf-16-be"


def _foreign(text, texts):
    # The first stretch of a text in which ``texts`` differ, for a person to read.
    start = next((i for i, here in enumerate(zip(*texts, strict=False)) if len(set(here)) > 1), 0)
    return " ".join(text[max(0, start - 10) : start + 20].split())
