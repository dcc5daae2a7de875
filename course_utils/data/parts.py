"""One file of labelled pairs as train, dev and test lists that tell nothing about one another, and what that took."""

from dataclasses import dataclass, replace

from course_utils.data.counts import usable
from course_utils.data.groups import _split_twins, check_no_leak, without_answers
from course_utils.data.plan import PARTS
from course_utils.data.reading import _as_rows, read_data
from course_utils.errors import InputError
from course_utils.files import _write_lines, check_ours, check_outputs, whole_folder
from course_utils.language import _


@dataclass
class _Parts:
    """The lists, and what was left out; ``str(parts)`` says it.

    Attributes:
        parts: {part: list of Group}.
        unfit: queries without a right document, or with right ones alone: they are in no part.
        taken: wrong documents that left a list of train or dev, since they answer a query of another part.
        emptied: queries left with nothing to rank by that.
        short: parts with fewer than half of the queries that were asked for.
        read: the Reading.
    """

    parts: dict
    unfit: int
    taken: int
    emptied: int
    short: list
    read: object = None

    def __str__(self):
        lines = [str(self.read)]
        for part, own in self.parts.items():
            right, total = (
                sum(len(x) for x in texts) for texts in ([g.positives for g in own], [g.documents for g in own])
            )
            lines.append(
                _("{part}.jsonl: {queries:,} queries, {total:,} documents, {right:,} right and {other:,} not.").format(
                    part=part, queries=len(own), total=total, right=right, other=total - right
                )
            )
        lines.append(
            _(
                "{taken:,} wrong documents left lists of train or dev: they, or nearly the same, answer a query of another part."
            ).format(taken=self.taken)
        )
        lines.append(
            _(
                "{gone:,} queries are in no part: {unfit:,} have no right or no wrong document, {emptied:,} lost all wrong ones so."
            ).format(gone=self.unfit + self.emptied, unfit=self.unfit, emptied=self.emptied)
        )
        if self.short:
            lines.append(
                _(
                    "{parts}: fewer than half of the queries asked for, since queries with a right document in common stay "
                    "together, and many hang together so."
                ).format(parts=_(", ").join(self.short))
            )
        return "\n".join(lines)


def _apart(groups, fractions=(0.7, 0.1, 0.2), seed=0):
    """Return the _Parts of a list of Group: train, dev and test, or for two fractions train and test.

    Queries stay together that share a right document, or have nearly the same one.

    Raises:
        InputError: nothing that can be ranked, or too few queries for so many parts.
    """
    names = PARTS if len(fractions) == 3 else (PARTS[0], PARTS[-1])
    fit = usable(groups)[0]
    try:
        before = _split_twins(fit, fractions, seed)
    except InputError as error:
        if len(fractions) < 3:
            raise
        raise InputError("{error} Right documents that are nearly the same count as one. Or leave dev out: --fractions 0.8,0.2.", error=error) from None  # fmt: skip
    after = []
    for i, own in enumerate(before):
        held_out = [g for part in before[i + 1 :] for g in part]
        after.append(without_answers(own, held_out, near=True) if held_out else own)
    for name, own in zip(names, after, strict=True):
        if not own:
            raise InputError(
                "No query of {name} has anything left to rank: the wrong documents of its lists answer queries of another "
                "part. Give more queries or more wrong documents, or leave dev out (--fractions 0.8,0.2).",
                name=name,
            )
    for i, own in enumerate(after):
        for j in range(i + 1, len(after)):
            check_no_leak(own, after[j], (names[i], names[j]))
    sizes = {(g.query, g.instruction): len(g.documents) for g in fit}
    kept = [g for own in after for g in own]
    taken = sum(sizes.values()) - sum(len(g.documents) for g in kept)
    short = [name for name, own, f in zip(names, before, fractions, strict=True) if len(own) < f * len(fit) / 2]
    return _Parts(dict(zip(names, after, strict=True)), len(groups) - len(fit), taken, len(fit) - len(kept), short)


def _split_file(source, out, fractions=(0.7, 0.1, 0.2), seed=0, **options):
    """Read labelled pairs as ``read_data`` does, split them and write train.jsonl, dev.jsonl and test.jsonl into a folder.

    Args:
        source: as for ``read_data``.
        out: the folder; one that is there may hold nothing but these files, as written here before.
        fractions: shares of train, dev and test, or of train and test.
        seed: for the shuffle.
        options: the further arguments of ``read_data``.

    Returns:
        _Parts.

    Raises:
        InputError: as for ``read_data`` and ``_apart``; a folder that holds anything else.
    """
    check_outputs([], [source], folders=[out])
    check_ours(out, [f"{PARTS[0]}.jsonl"])
    read = read_data(source, **options)
    done = replace(_apart(read.groups, fractions, seed), read=read)
    with whole_folder(out, hashed=True) as folder:
        for part, own in done.parts.items():
            _write_lines(folder / f"{part}.jsonl", _as_rows(own))
    return done
