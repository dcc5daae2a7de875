"""Which label means right: numbers, grades, scores and words, and what is wrong with rows that say none."""

import re
from numbers import Real

from course_utils.data.columns import _text_of
from course_utils.data.read import DataError
from course_utils.errors import InputError
from course_utils.language import _, _later

# Words for right and wrong, one a comma: English, German, French, Spanish, Italian, Chinese.
YES = (
    "yes,y,true,relevant,positive,pos,right,correct,ja,j,wahr,richtig,passend,positiv,oui,vrai,pertinent,sí,si,sì,verdadero,"
    "relevante,pertinente,vero,rilevante,是,相关,对,正确,有关,真,符合,匹配,正例,正样本,有用,相關,正確,有關,對"
)
NO = (
    "not relevant,no,n,false,irrelevant,nonrelevant,negative,neg,wrong,incorrect,nein,falsch,nicht relevant,unpassend,negativ,"
    "non,faux,non pertinent,falso,no relevante,irrelevante,non pertinente,non rilevante,irrilevante,"
    "否,不相关,错,错误,无关,不是,不,不对,不正确,假,不符合,不匹配,负例,负样本,没用,无用,不相關,錯,錯誤,無關,不對"
)
YES, NO = set(YES.split(",")), set(NO.split(","))


def _is_word(label):
    """Return whether a label is a word for right or wrong."""
    return isinstance(label, str) and label.strip().casefold() in YES | NO


def _number_of(label):
    """Return the number that a label means, or None: 1, "1.0", True, "yes", "不相关"."""
    if isinstance(label, str):
        word = label.strip().casefold()
        if word in YES or word in NO:
            return float(word in YES)
        try:
            label = float(word) if len(word) < 30 else None
        except ValueError:
            return None
    if not isinstance(label, Real) or label != label or abs(label) > 1e9:
        return None
    return float(label)


def _column_numbers(cells):
    """Return (the number or None of each cell of a column of labels, sentences on what was read as what).

    A per cent sign, or a comma for a point, is read where the whole column is written so; a word among numbers is a slip.
    """
    filled = [c.strip() if isinstance(c, str) else c for c in cells if _text_of(c) != ""]
    texts, said = [c for c in filled if isinstance(c, str)], []
    words = list(dict.fromkeys(c for c in texts if _is_word(c)))
    slip = words and any(not _is_word(c) and _number_of(c) is not None for c in filled)
    percent = filled and all(re.search(r"\d\s*[%％]$", str(c)) for c in filled)
    comma = any(re.match(r"-?\d+,\d", c) and not re.match(r"[1-9]\d*,\d{3}$", c) for c in texts) and not any("." in c for c in texts)  # fmt: skip
    if words and not slip:
        sides = [_(", ").join(f'"{w}"' for w in words if (w.casefold() in YES) == right) for right in (True, False)]
        told = (_("taken for relevant: {words}"), _("taken for not relevant: {words}"))
        said += [t.format(words=w) for t, w in zip(told, sides, strict=True) if w]
    said += [_("percentages are read as scores, 90 % as 0.9")] if percent else []
    said += [_("the comma in labels is read as a decimal point")] if comma else []
    numbers = []
    for cell in cells:
        if isinstance(cell, str):
            cell = re.sub(r"\s*[%％]\s*$", "", cell) if percent else cell
            cell = re.sub(r"^(\s*-?\d+),(\d+\s*)$", r"\1.\2", cell) if comma else cell
        number = None if slip and _is_word(cell) else _number_of(cell)
        numbers.append(round(number / 100, 9) if percent and number is not None else number)
    return numbers, said


def _labels_of(numbers, threshold=None):
    """Return (labels from 0, True when the numbers are scores of a teacher, a sentence on what was taken for what).

    Args:
        numbers: list of float, all labels of the data.
        threshold: the least number that means relevant; None decides where it is certain.

    Raises:
        InputError: when the numbers do not say which of them mean "not relevant".
    """
    kinds, whole = sorted(set(numbers)), all(n == int(n) for n in numbers)
    shown = ", ".join(f"{n:g}" for n in kinds[:6])
    if threshold is not None:
        said = _("labels of at least {threshold:g} count as relevant").format(threshold=threshold)
        if whole and kinds[-1] <= 10:
            return [max(0, int(n - threshold) + 1) if n >= threshold else 0 for n in numbers], False, said
        return [int(n >= threshold) for n in numbers], not whole, said  # whole: counts, such as clicks, are no grades
    if not whole and kinds[0] >= 0 and kinds[-1] <= 1:
        return (
            [int(n >= 0.5) for n in numbers],
            True,
            _("labels are scores from 0 to 1; 0.5 and more counts as relevant"),
        )
    if not whole or (kinds[0] < 0 and 0 in kinds and kinds != [-1, 0, 1]):
        raise InputError("The labels are scores from {kinds_0:g} to {kinds:g}; from which one on is a document relevant? Give threshold=... (--threshold).", kinds_0=kinds[0], kinds=kinds[-1])  # fmt: skip
    if kinds == [-1, 1] or kinds == [-1, 0, 1]:
        return [int(n > 0) for n in numbers], False, _("-1 is read as not relevant")
    if kinds[-1] > 255:
        raise InputError("The labels go up to {highest:g}, and grades end at 255; from which number on is a document relevant? Give threshold=... (--threshold).", highest=kinds[-1])  # fmt: skip
    if kinds[0] < 0 or (kinds[0] >= 1 and len(kinds) > 1):
        raise InputError("The labels are {shown}, and none of them is 0; from which one on is a document relevant? Give threshold=... (--threshold).", shown=shown)  # fmt: skip
    said = _("grades 0 to {kinds:g}; 1 and more counts as relevant").format(kinds=kinds[-1]) if kinds[-1] > 1 else ""
    return [int(n) for n in numbers], False, said


def _read_labels(found):
    """Set the labels of all items from their cells, in place, and say what was read as what."""
    numbers, said = _column_numbers([cell for item in found.items for cell in item.cells])
    found.said += said
    rest = iter(numbers)
    for item in found.items:
        item.labels = [next(rest) for _ in item.cells]


def _unread(cell):
    """Return what is wrong with the cell of a label that could not be read."""
    if _text_of(cell) == "":
        return _("the label is missing")
    if _is_word(cell):
        return _('the label is "{cell}", a word among numbers').format(cell=cell)
    said = _('the label is "{cell}": no number, yes or no, or not written as the others are')
    return said.format(cell=str(cell)[:40])


def _settle(found, name, threshold):
    """Check the texts, turn label numbers into labels and teacher scores; in place."""
    problems = []
    for item in found.items:
        if not item.query:
            problems.append((item.where, "missing field" if item.query == "" else "wrong type", _("no text for the query")))  # fmt: skip
        if len(item.labels) != len(item.documents):
            what = _("{n_documents} documents and {n_labels} labels").format(n_documents=len(item.documents), n_labels=len(item.labels))  # fmt: skip
            problems.append((item.where, "wrong label", what))
            continue
        if found.pairs:
            if not item.documents[0]:
                problems.append((item.where, "missing field", _("no text for the document")))
        else:
            keep = [i for i, d in enumerate(item.documents) if d]
            found.dropped[_later("documents without text")] += len(item.documents) - len(keep)
            item.documents, item.labels = [item.documents[i] for i in keep], [item.labels[i] for i in keep]
            item.cells, item.scores = ([own[i] for i in keep] if own else [] for own in (item.cells, item.scores))
        if None in item.labels:
            problems.append((item.where, "wrong label", _unread(item.cells[item.labels.index(None)])))
        if None in item.scores:
            problems.append((item.where, "wrong label", _("a teacher's score is no number")))
    if problems:
        raise DataError(name, problems)
    numbers = [n for item in found.items for n in item.labels]
    if not numbers:
        raise InputError("{name} holds no pairs.", name=name)
    labels, teacher, said = _labels_of(numbers, threshold)
    found.said += [said] if said else []
    rest = iter(labels)
    for item in found.items:
        if teacher and not item.scores:
            item.scores = item.labels
        item.labels = [next(rest) for _ in item.labels]
