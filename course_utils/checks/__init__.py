"""What exercises are judged by: each check prints what is right, or raises NotYet with words that say what to look at.

One module a lesson; ``_careful`` keeps a learner's own exception from ending in a raw traceback.
"""

import functools
import inspect
import reprlib
import traceback

from course_utils.language import _

__all__ = ["NotYet", "need", "ok"]


class NotYet(AssertionError):
    """The answer is not right yet; the message says why and where to look."""

    def _render_traceback_(self):
        return [f"NotYet: {self}"]  # IPython shows this in place of a page of frames that are not the learner's


class _Stopped(NotYet):
    # The learner's function raised ``error``.
    def __init__(self, text, error):
        super().__init__(text)
        self.error = error


def ok(text="That is right.", /, **fields):
    """Print in the learner's language that an exercise is solved; ``fields`` go where the text names them."""
    print(_said(text, fields))


def need(condition, text, /, **fields):
    """Raise NotYet with ``text`` in the learner's language, ``fields`` where it names them, unless ``condition`` holds."""
    if not condition:
        raise NotYet(_said(text, fields))


def _said(text, fields):
    return _(text).format(**fields) if fields else _(text)


def _judged(judge, cases, choose, again, other=""):
    """Ask a learner's function for its verdict on each case, and say what a wrong one overlooks.

    ``cases`` maps a name to (right verdict, why), where why is one sentence or a sentence for each wrong verdict, with
    ``other`` for the rest; ``choose`` and ``again`` are said of an unknown and of a wrong verdict.
    """
    verdicts = sorted({right for right, __ in cases.values()})
    for name, (right, why) in cases.items():
        answer = judge(name)
        need(answer in verdicts, choose, name=name, answer=answer, words=", ".join(verdicts))
        said = why.get(answer, other) if isinstance(why, dict) else why
        need(answer == right, again, name=name, answer=answer, why=_(said))


def _attempt(function, *given, **words):
    """Call a learner's function; ``words`` maps names of exceptions to what to say when it stops with one of them."""
    try:
        return function(*given)
    except _Stopped as stopped:
        if said := words.get(type(stopped.error).__name__):
            raise NotYet(f"{stopped} {said}") from None
        raise


def _careful(check):
    """Decorate a check so that it always ends in words: it says what a learner's function raised, where, with what.

    An answer of a kind that the check did not expect ends in a sentence, too.
    """

    @functools.wraps(check)
    def run(*given):
        try:
            check(*(_watched(g) if inspect.isroutine(g) else g for g in given))
        except NotYet as error:
            raise error from None
        except Exception as error:
            said = _(
                "Your answer is of another kind than the check expects ({kind}: {error}). Compare what you return with what "
                "the text asks for."
            )
            raise NotYet(said.format(kind=type(error).__name__, error=error)) from None

    return run


def _watched(function):
    @functools.wraps(function)
    def run(*given):
        try:
            return function(*given)
        except NotYet:
            raise
        except Exception as error:
            code = getattr(inspect.unwrap(function), "__code__", None)
            own = [f for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
            place = _(', at "{line}"').format(line=own[-1].line) if own and own[-1].line else ""
            said = _("Your function stops with {kind}: {error}{place}. It was given {given}.").format(
                kind=type(error).__name__, error=error, place=place, given=_named(function, given)
            )
            raise _Stopped(said, error) from None

    return run


def _named(function, given):
    # The arguments by name, shortened; models and tokenizers by their kind.
    try:
        names = list(inspect.signature(function).bind(*given).arguments)
    except (TypeError, ValueError):
        names = []
    names = names if len(names) == len(given) else [_("argument {i}").format(i=i) for i in range(1, len(given) + 1)]
    shown = [v if isinstance(v, (int, float, str, list, tuple, dict)) else type(v).__name__ for v in given]
    short = reprlib.Repr()
    short.maxlist, short.maxstring = 10, 60
    return ", ".join(
        f"{n} = {short.repr(s)}" if s is v else _("{n}, a {kind}").format(n=n, kind=s)
        for n, s, v in zip(names, shown, given, strict=True)
    )
