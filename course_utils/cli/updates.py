"""delta, gate, versions, rollback: a trade as a small file on one base; a new version behind a gate; the way back."""

import shlex

from course_utils.cli import options, reading, record
from course_utils.cli.terminal import check_replaced
from course_utils.errors import InputError
from course_utils.files import check_outputs
from course_utils.language import _


def add(commands):
    """Add the commands to the parser."""
    what = _("keep what an adaptation changed as a small file, or put it on its base")
    example = "delta make --adapted adapted/model --name medical --out medical.delta"
    own = options.command(commands, "delta", what, example, None)
    own = own.add_subparsers(dest="delta_command", required=True, metavar="command")
    made = options.command(own, "make", _("write what differs between an adapted model and its base"), example, make)
    made.add_argument("--adapted", required=True, metavar="FOLDER", help=_("the adapted model"))
    made.add_argument("--name", required=True, help=_("of the trade, for example medical"))
    what = _("write the model that a base becomes with a delta")
    example = "delta apply --delta medical.delta --out medical"
    applied = options.command(own, "apply", what, example, apply)
    applied.add_argument("--delta", required=True, metavar="FOLDER", help=_("what delta make wrote"))
    for parser in (made, applied):
        parser.add_argument("--out", required=True, metavar="FOLDER")
        options.add_model(parser)
    _add_gate(commands)
    what = _("show the versions that gate keeps, and write the one in use as a model, for rank, search and serve")
    shown = options.command(commands, "versions", what, "versions versions --out model", undo)
    shown.add_argument("--out", metavar="FOLDER", help=_("write the version in use here as a model"))
    what = _("put the version before the one in use in use again")
    back = options.command(commands, "rollback", what, "rollback versions --out model", undo)
    back.add_argument("--out", metavar="FOLDER", help=_("write the version that is in use then as a model"))
    for parser in (shown, back):
        parser.add_argument("versions", metavar="VERSIONS", help=_("the folder of versions that gate keeps"))
        options.add_model(parser)


def _add_gate(commands):
    what = _(
        "put an adapted model in use only if it is better for sure and no guarded set falls (exit code 1: refused)"
    )
    example = "gate versions --candidate adapted/model --target test.json --guard general=general.json"
    parser = options.command(commands, "gate", what, example, judge)
    add = parser.add_argument
    add("versions", metavar="VERSIONS", help=_("the folder of versions; made with the base as its first one"))
    add("--candidate", required=True, metavar="FOLDER", help=_("the adapted model"))
    add("--target", required=True, metavar="E", help=_("labelled pairs of its trade, checked, not learned from"))
    add(
        "--guard",
        required=True,
        action="append",
        metavar="NAME=G",
        help=_("labelled pairs that must not fall; repeatable"),
    )
    add("--train", metavar="T", help=_("what the candidate learned from, to look for leaks"))
    add("--layers", type=int, default=3, metavar="K", help=_("last layers that it was trained with (default 3)"))
    what = _("nDCG@10 that a guarded set may fall below the version in use and the best one before it (default 0.02)")
    add("--margin", type=float, default=0.02, metavar="X", help=what)
    add("--least", type=int, default=30, metavar="N", help=_("queries that every set must have (default 30)"))
    add("--strict", action="store_true", help=_("no interval of a guard may reach below the margin either"))
    options.add_grades(parser)
    options.add_model(parser)
    reading.add_reading(parser)
    add("--json", metavar="R", help=_("write the decision here; - is standard output"))


def make(args):
    """Write the delta."""
    from course_utils.domains import save_delta
    from course_utils.domains.train import _difference
    from course_utils.model import Reranker

    check_outputs((), [args.model, args.adapted], folders=[args.out])
    check_replaced(args.out, "delta.json")
    base = options.load(args, quiet=True)
    kind = next(base.model.parameters())
    adapted = Reranker.load(args.adapted, device=kind.device.type, dtype=kind.dtype, quiet=True)
    delta = _difference(base, adapted, args.name)
    save_delta(delta, args.out)
    command = _command(args, "delta", "apply", "--delta", args.out, "--out", "FOLDER")
    print(
        _("{delta}\nWritten: {out}. With the same base: {command}").format(delta=delta, out=args.out, command=command)
    )


def apply(args):
    """Write the model."""
    from course_utils.domains import attach, load_delta

    check_outputs((), [args.model, args.delta], folders=[args.out])
    check_replaced(args.out, "reranker.json")
    delta = load_delta(args.delta)
    attach(options.load(args, quiet=True), delta).save(args.out)
    print(_("Written: {out}, which is {base} with {name}.").format(out=args.out, base=delta.base, name=delta.name))


def judge(args):
    """Print the decision and return it."""
    from course_utils.model import Reranker
    from course_utils.updates import Gate
    from course_utils.updates.candidate import _consider

    pairs = [text.partition("=") for text in args.guard]
    if any(not name or not path for name, _, path in pairs) or len({name for name, _, _ in pairs}) < len(pairs):
        raise InputError("--guard is NAME=FILE, for example general=general.json, and every name stands once.")
    guards = {name: path for name, _, path in pairs}
    inputs = [args.target, args.candidate, args.model, args.train, *guards.values()]
    check_outputs([args.json], inputs, folders=[args.versions])
    kept = record.Record(args)
    gate = Gate(
        reading.read(args, args.target), {name: reading.read(args, path) for name, path in guards.items()},
        args.margin, args.least, args.strict,
    )  # fmt: skip
    train = reading.read(args, args.train) if args.train else ()
    base = options.load(args, quiet=True)
    kept.model(base)
    first = next(base.model.parameters())
    candidate = Reranker.load(args.candidate, device=first.device.type, dtype=first.dtype, quiet=True)
    done = _consider(args.versions, base, candidate, gate, args.layers, train)
    print(done)
    _beware(kept, gate, train)
    if done.accepted:
        print(_to_use(args))
    figures = {name: {"mean": d.mean, "low": d.low, "high": d.high} for name, d in done.figures.items()}
    said = {"accepted": done.accepted, "version": done.version, "reason": done.reason, "figures": figures}
    return {**said, "run": kept.finish()}


def _beware(kept, gate, train):
    """Warn where the documents of the target tell their label: a rule that never reads the query gains there, too."""
    from course_utils.data import rankable, subset
    from course_utils.evaluation import betrayed
    from course_utils.evaluation.rules import BLIND, _tells

    try:
        chance, rule, gain = betrayed(*(subset(rankable(part), BLIND) for part in (train, gate.target) if part))
    except InputError:  # one kind of label teaches no rule
        return
    if _tells(gain):
        kept.warn(
            _(
                "a rule that never reads the query reaches nDCG@10 {rule:.3f} on the target, random order {chance:.3f}: a gain "
                "up to {gain:.3f} there is no sign that queries are read."
            ).format(rule=rule, chance=chance, gain=gain.mean)
        )


def _command(args, *words):
    """Return a command line to copy, with the options that say which base is meant and how it is loaded."""
    given = {name: getattr(args, name) for name in ("model", "dtype", "max_length")}
    more = [
        word
        for name, value in given.items()
        if value not in ("nano", None)
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return shlex.join(["python", "-m", "course_utils", *words, *more])


def _to_use(args):
    """Return the line with the command that writes the version in use as a model."""
    command = _command(args, "versions", args.versions, "--out", "FOLDER")
    return _("To use it: {command}; FOLDER is then a model, as rank, search and serve take it.").format(command=command)


def undo(args):
    """Go back (``versions``: nowhere), say what is in use, and write it as a model where asked."""
    from course_utils.updates import current_version, load_version, rollback, version_table

    if args.out:
        check_outputs((), [args.versions, args.model], folders=[args.out])
        check_replaced(args.out, "reranker.json")
    said = []

    def before(name):  # all that can fail, before anything is rolled back
        table = version_table(args.versions, name)
        said.append(_("{now} is in use.\n\n{version_table}").format(now=name, version_table=table))
        if args.out:
            reranker = options.load(args, quiet=True)
            load_version(args.versions, reranker, name)
            reranker.save(args.out)
            written = _("Written: {out}. A server that is running keeps its old model; restart it.")
            said.append(written.format(out=args.out))
        else:
            said.append(f"\n{_to_use(args)}")

    rollback(args.versions, before=before) if args.command == "rollback" else before(current_version(args.versions))
    print(*said, sep="\n")
