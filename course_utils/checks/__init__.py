"""Checks for the exercises: each prints what is right, or raises NotYet with words that say what to look at."""


class NotYet(AssertionError):
    """The answer is not right yet; the message says why and where to look."""


def ok(text="That is right."):
    """Print that an exercise is solved."""
    print(text)


def need(condition, text):
    """Raise NotYet with ``text`` unless ``condition`` holds."""
    if not condition:
        raise NotYet(text)
