"""What rows of training data share with test data, row by row, for the report."""

from collections import defaultdict
from pathlib import Path

from course_utils.data.near import DOCUMENTS, QUERIES, _near_index
from course_utils.data.read import DataError, check_row, iter_rows
from course_utils.data.remarks import _excerpt
from course_utils.errors import InputError
from course_utils.language import _
from course_utils.text import normalise


class _Against:
    """The test data, and what the rows that go by share with them."""

    def __init__(self, test, max_relevance):
        self.name = str(test) if isinstance(test, (str, Path)) else _("the test data")
        queries, answers, problems = {}, {}, []
        for where, row in iter_rows(test):
            checked = check_row(row, max_relevance)
            if isinstance(checked, list):
                problems += [(where, *problem) for problem in checked]
                continue
            queries[checked[0]] = None
            if checked[2] > 0:
                answers[checked[1]] = None
        if problems:
            raise DataError(self.name, problems)
        if not queries:
            raise InputError("{name} holds no pairs.", name=self.name)
        self.queries, self.answers = list(queries), list(answers)
        self.find_query, self.find_answer = _near_index(queries, **QUERIES), _near_index(answers, **DOCUMENTS)
        self.found, self.seen, self.taught, self.wrong_rows = defaultdict(list), set(), set(), 0
        self.known = {}  # text without case and punctuation -> what _match said of it

    def compare(self, where, query, document, label):
        """Note what one row shares with the test data; each text once."""
        self._note("query", where, query, self.queries, self.find_query)
        if label > 0:
            self._note("document", where, document, self.answers, self.find_answer)
            return
        same, matches = self._match(document, self.answers, self.find_answer)
        if same is not None:
            self.wrong_rows += 1
            if same not in self.taught:
                self.taught.add(same)
                self.found["answer among negatives"].append(f'{where} "{_excerpt(document)}"')
        elif matches and self._first("near answer", document):
            self.found["near answer among negatives"].append(_likeness(where, document, matches))

    def _note(self, kind, where, text, texts, find):
        if not self._first(kind, text):
            return
        same, matches = self._match(text, texts, find)
        if same is not None:
            self.found[f"{kind} in test"].append(f'{where} "{_excerpt(text)}"')
        elif matches:
            self.found[f"{kind} nearly in test"].append(_likeness(where, text, matches))

    def _first(self, kind, text):
        # Queries count as they stand, documents without case and punctuation, as in the figures of the report.
        key = kind, hash(text if kind == "query" else normalise(text))
        known = key in self.seen
        self.seen.add(key)
        return not known

    def _match(self, text, texts, find):
        """Return (the same text or None, [(text nearly the same, similarity)]) for one text; looked up once."""
        plain = normalise(text)
        key = id(texts), hash(plain)
        if key not in self.known:
            matches = [(texts[i], similarity) for i, similarity in find(text)]
            same = next((normalise(other) for other, _ in matches if normalise(other) == plain), None)
            self.known[key] = same, [] if same is not None else matches
        return self.known[key]


def _likeness(where, text, matches):
    other, similarity = max(matches, key=lambda m: m[1])
    return _('{where} "{text}" and "{other}" ({similarity:.0%})').format(
        where=where, text=_excerpt(text), other=_excerpt(other), similarity=similarity
    )
