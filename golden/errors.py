"""The one exception a user's mistake raises, and the words for what the system says."""


class FewbitError(ValueError):
    """A mistake in what the user handed in: a file, a network, a board, an option.

    The message is one line that says what is wrong, where, and what to do about it. The command line prints it and
    exits with status 2; programs may catch it. Faults of fewbit itself never raise this.
    """


def reason(error: OSError) -> str:
    """What the system says of ``error``, as the end of a sentence."""
    return (error.strerror or str(error)).lower()
