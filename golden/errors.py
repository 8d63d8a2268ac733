"""The exception for mistakes of the user, and wording for operating-system errors."""


class FewbitError(ValueError):
    """A mistake in the user's input: a file, a network, a board, an option.

    The message is one line that says what is wrong, where, and what to do. The command line prints it and exits with
    status 2; programs may catch it. A bug in fewbit never raises this exception.
    """


def reason(error: OSError) -> str:
    """The operating system's message for ``error``, in lower case, as the end of a sentence."""
    return (error.strerror or str(error)).lower()
