"""The language of what people read: English, or Chinese through gettext.

COURSE_LANGUAGE decides (``en`` or ``zh``); a notebook's first cell sets it where nobody did; without it the system's language
decides. Messages stand in the code in English; their Chinese in ``locale/zh_CN/LC_MESSAGES/course_utils.po``, which
``python scripts/messages.py`` brings up to date.
"""

import functools
import gettext
import locale
import os
from pathlib import Path

LANGUAGES = ("en", "zh")
_FOLDER = Path(__file__).parent / "locale"


def _language():
    """Return "zh" when COURSE_LANGUAGE, or without it the system's language, begins so, else "en"."""
    # As gettext looks: the first that is set decides. Windows sets none and tells by its locale.
    names = ("COURSE_LANGUAGE", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    named = next(filter(None, map(os.environ.get, names)), None) or locale.getlocale()[0] or ""
    return "zh" if named.lower().startswith(("zh", "chinese")) else "en"


@functools.cache
def _catalogue(language):
    if language == "en":
        return gettext.NullTranslations()
    return gettext.translation("course_utils", _FOLDER, ["zh_CN"])


def _(text):
    """Return ``text``, a literal in the code, in the language of the reader."""
    return _catalogue(_language()).gettext(text) if text else text


def _joined(sentences):
    """Return sentences one after the other, in English with a blank between them."""
    return (" " if _language() == "en" else "").join(sentences)


def _later(text):
    """Return ``text`` as it is: a mark for one that stands where the language is not known yet and goes through ``_`` later."""
    return text
