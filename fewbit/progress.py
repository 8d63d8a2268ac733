"""Shows the progress of long steps on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Reporter:
    """Shows progress on standard error, if that is a terminal and ``quiet`` is not set; otherwise writes nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.visible = self.console.is_terminal and not quiet

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar of ``total`` steps. Yields a callable to be called with the number of steps done."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self.visible, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=done)

    @contextmanager
    def steps(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show a spinner for work of unknown length. Yields a callable to be called with the name of each new step."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self.visible, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda step: progress.update(task, description=f"{what}: {step}")
