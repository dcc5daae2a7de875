"""The one exception that means "the input is wrong", shown to people as one sentence."""

from course_utils.language import _

# What torch, safetensors and numpy say in exceptions of their own when memory is short.
_SHORT = ("can't allocate memory", "out of memory", "Unable to allocate")


def _out_of_memory(error):
    """Return whether an exception means that memory is short."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _SHORT)


class InputError(ValueError):
    """Bad input: a file, a folder, a name or a value that a person can mend.

    The command line prints the message alone and exits with code 2. The message says what is wrong, where, and
    what to do, in the language of the reader.

    Args:
        text: the message in English, a literal; ``{name}`` marks where a field stands.
        fields: values by name.
    """

    def __init__(self, text="", /, **fields):
        text = _(text)
        super().__init__(text.format(**fields) if fields else text)
