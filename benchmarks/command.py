"""Runs a benchmark as a command: a user's mistake is one line and exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fewbit.golden.errors import FewbitError


def command(name: str, main: Callable[[list[str]], None]) -> None:
    try:
        main(sys.argv[1:])
    except FewbitError as error:
        print(f"benchmarks.{name}: {error}", file=sys.stderr)
        sys.exit(2)
