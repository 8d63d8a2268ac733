"""Runs the tools: one place that starts a child process, waits for it, and never leaves one behind.

A tool runs in a process group of its own. Whatever ends the wait, Ctrl-C, SIGTERM, a time-out or an error, ends the
whole group: kindly at first, so that tools remove their temporary files, and by force after :data:`GRACE_S`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from fewbit.golden.errors import FewbitError, reason

GRACE_S = 2.0
"""Seconds that a tool has to end by itself."""

_GROUPS = hasattr(os, "killpg")
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(BaseException):
    """The program was told to end, by signal ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Ended:
    """How a tool ended.

    Attributes
    ----------
    status : int
        Its exit status; the negative number of the signal that ended it.
    output : str
        What it wrote to standard output, and to standard error where that was not asked for separately.
    errors : str
        What it wrote to standard error, where asked for.
    """

    status: int
    output: str
    errors: str = ""


class _Children:
    """The tools that run, so that a signal handler can end those of other threads too."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.ending = False
        self.undisturbed = False
        self.held: int | None = None  # a signal that waits

    def end(self) -> None:
        """Tell all to end, and see to it that they do, without waiting for it here."""
        self.ending = True
        told = list(self.running)
        for process in told:
            _tell(process, signal.SIGTERM)
        if told:
            threading.Thread(target=self._force, args=(told,), daemon=True).start()

    def _force(self, told: list[subprocess.Popen[str]]) -> None:
        time.sleep(GRACE_S)
        for process in told:
            if process in self.running:
                _tell(process, getattr(signal, "SIGKILL", signal.SIGTERM))


_children = _Children()


def run(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    timeout: float | None = None,
    separate: bool = False,
    output: TextIO | None = None,
    on_line: Callable[[str], object] | None = None,
) -> Ended:
    """Runs ``command`` and waits for its end.

    Parameters
    ----------
    command : sequence of str
    folder : Path, optional
        Where it runs.
    env : mapping, optional
        Its whole environment.
    input : str, optional
        What it reads from standard input; nothing by default.
    timeout : float, optional
        Seconds after which it is ended.
    separate : bool
        Whether to keep standard error apart.
    output : text file, optional
        Where both outputs go instead.
    on_line : callable, optional
        Is handed every line of both outputs as it comes.

    Raises
    ------
    FewbitError
        If it does not start.
    subprocess.TimeoutExpired
        If it does not end in ``timeout`` seconds.
    """
    process = _start(command, folder, env, input is not None, separate, output)
    try:
        if on_line is not None:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                on_line(line.rstrip("\n"))
            return Ended(process.wait(), "".join(lines))
        written, errors = process.communicate(input, timeout)
        return Ended(process.returncode, written or "", errors or "")
    except BaseException:
        _end(process)
        raise
    finally:
        if _children.ending:  # the tool has ended, but what it started may have not
            _end(process)
        _forget(process)


def failure(name: str, ended: Ended, log: Path | None = None) -> str:
    """Why a tool failed, in words: the signal or status that it ended with, and the last line that it wrote.

    Parameters
    ----------
    name : str
        The tool, as the user knows it.
    log : Path, optional
        The file that it wrote its messages to, where that is not its output.
    """
    text = ended.errors.strip() or ended.output.strip()
    if log is not None:
        with contextlib.suppress(OSError):
            text = log.read_text(encoding="utf-8", errors="replace").strip() or text
    last = text.splitlines()[-1].strip() if text else ""
    return f"{name} {_how(ended.status)}; " + (f"its last line: {last}" if last else "it wrote nothing")


def _how(status: int) -> str:
    # A shell, make or Python that reports a child's signal does so as 128 and the signal.
    number = -status if status < 0 else status - 128 if 128 < status < 160 else 0
    try:
        name = signal.Signals(number).name if number else ""
    except ValueError:
        name = ""
    if not name:
        return f"failed with exit status {status}"
    memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"was ended by {name}{memory} (exit status {status})"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards. Raises FewbitError if there is no place for one."""
    try:
        holder = tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True)
    except OSError as error:
        why = f"no temporary folder can be made: {reason(error)}; set TMPDIR to one that can be written"
        raise FewbitError(why) from None
    with holder as name:
        yield Path(name)


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP end all tools and become :class:`Terminated`.

    Only the first counts, and all are ignored from then on: what is under way is the end of the program, which another
    must not break off. Elsewhere than in the main thread it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    told = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if _children.undisturbed:
            _children.held = number
            return
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        told.append(number)
        _children.end()
        raise Terminated(number)

    # What the caller ignores, as nohup does, stays ignored.
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, handle)
    _children.ending, _children.held = False, None
    try:
        yield
    finally:
        if not told:
            for each, handler in before.items():
                signal.signal(each, handler)
        _children.ending = False


def ending() -> bool:
    """Whether a signal has told the program to end: that a tool fails is its doing then."""
    return _children.ending


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within it a signal waits, for what is short and must not stay half done: a file in the place of another, and the
    next not yet."""
    if _children.undisturbed or threading.current_thread() is not threading.main_thread():
        yield
        return
    _children.undisturbed = True
    try:
        yield
    finally:
        _children.undisturbed = False
        held, _children.held = _children.held, None
        if held is not None:
            signal.raise_signal(held)


def _start(
    command: Sequence[str],
    folder: Path | None,
    env: Mapping[str, str] | None,
    has_input: bool,
    separate: bool,
    output: TextIO | None,
) -> subprocess.Popen[str]:
    options: dict[str, Any] = {"start_new_session": True} if _GROUPS else {}
    process: subprocess.Popen[str] | None = None
    try:
        with undisturbed():
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE if output is None else output,
                stderr=subprocess.PIPE if separate else subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                **options,
            )
            _children.running.add(process)
    except OSError as error:
        raise FewbitError(f"the tool {command[0]} does not start: {reason(error)}") from None
    except BaseException:  # a signal that came meanwhile
        if process is not None:
            _end(process)
            _forget(process)
        raise
    if _children.ending:  # a signal came to the main thread meanwhile
        _end(process)
        _forget(process)
        raise FewbitError("interrupted")
    return process


def _forget(process: subprocess.Popen[str]) -> None:
    _children.running.discard(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _tell(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(OSError):
        if _GROUPS:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _end(process: subprocess.Popen[str]) -> None:
    """End a tool and all that it started, and wait until they are gone."""
    _tell(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    until = time.monotonic() + GRACE_S
    while _GROUPS and _any_left(process.pid) and time.monotonic() < until:
        time.sleep(0.02)
    _tell(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    if sys.platform != "win32":
        until = time.monotonic() + GRACE_S
        while _any_left(process.pid) and time.monotonic() < until:
            time.sleep(0.02)


def _any_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
