"""Runs a benchmark as a command: errors are printed in one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from fewbit.golden.errors import FewbitError
from fewbit.hw import child


def command(name: str, main: Callable[[list[str]], None]) -> None:
    """Run ``main`` with the command-line arguments. Exits with status 2 on an error, 128 + N on signal N."""
    try:
        with child.signals():
            main(sys.argv[1:])
    except child.Terminated as ended:
        what = "interrupted" if ended.number == signal.SIGINT else "terminated"
        print(f"benchmarks.{name}: {what}", file=sys.stderr)
        sys.exit(128 + ended.number)
    except FewbitError as error:
        print(f"benchmarks.{name}: {error}", file=sys.stderr)
        sys.exit(2)
