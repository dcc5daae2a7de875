"""The parts of a training: each file read, kept apart from the others, and what of it can be used."""

from course_utils.cli import reading
from course_utils.cli.terminal import note
from course_utils.errors import InputError
from course_utils.language import _

LEAST_TRAIN = 4  # as training asks for


def read(args):
    """Return ({part: file}, {part: groups}); no part may give another's answers away."""
    from course_utils.data import check_no_leak
    from course_utils.data.groups import _nearly_shared

    files = {part: getattr(args, part) for part in ("train", "dev", "test", "general") if getattr(args, part)}
    groups = {part: reading.read(args, path) for part, path in files.items()}
    for one, other in (("train", "test"), ("train", "dev"), ("dev", "test"), ("train", "general")):
        if one in groups and other in groups:
            check_no_leak(groups[one], groups[other], (files[one], files[other]))
            n = _nearly_shared(groups[one], groups[other])
            said = _(
                "{n} queries or right documents of {other} are nearly the same as some of {one}: part of what is measured may be memory. To see them: data check {one} --test {other}"
            )
            if n:
                note(said.format(n=n, one=files[one], other=files[other]))
    return files, groups


def usable(args, files, read, reranker=None, kept=None):
    """Return {part: the groups that can be ranked}; what is left out is put down in the Record ``kept`` and said.

    Without a reranker it says what the files alone tell, before a model is loaded: queries may still be too long for it.
    """
    from course_utils import data

    parts = {}
    for part, groups in read.items():
        try:
            parts[part], counts = data.usable(groups, reranker)
        except InputError as error:
            raise InputError("{file}: {error}", file=files[part], error=error) from None
        if kept:
            kept.data(part, files[part], counts)
    if "dev" not in parts and len(parts["train"]) < LEAST_TRAIN:
        raise InputError(
            "{train} has {n_train} queries that can be ranked, too few to hold some out for dev; give {least_train} "
            "at least, or a --dev file.",
            train=files["train"], n_train=len(parts["train"]), least_train=LEAST_TRAIN
        )  # fmt: skip
    train = _without_answers(parts, files, kept)
    return {**parts, "train": data.subset(train, args.max_queries, args.seed)}


def _without_answers(parts, files, kept):
    """Return the training groups without wrong documents that are right answers of dev or test; say how many there were."""
    from course_utils.data import without_answers

    train = parts["train"]
    for part in ("dev", "test"):
        if part in parts:
            before, train = train, without_answers(train, parts[part])
            gone = sum(len(g.documents) for g in before) - sum(len(g.documents) for g in train)
            if gone and kept:
                kept.warn(
                    _(
                        "{gone} wrong documents of {train} are right answers of {files} (or stand in lists that hold nothing "
                        "else): they were taken out, since a model that learns to say no to them looks worse than it is."
                    ).format(gone=gone, train=files["train"], files=files[part])
                )
    if not train:
        raise InputError("{train} holds no wrong document but right answers of dev or test: add other negatives.", train=files["train"])  # fmt: skip
    return train
