"""The one exception that means "the input is wrong", shown to people as one sentence."""


class InputError(ValueError):
    """Bad input: a file, a folder, a name or a value that a person can mend.

    The command line prints the message alone and exits with code 2. The message says what is wrong, where, and
    what to do.
    """
