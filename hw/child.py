"""Runs external tools: starts a child process, waits for it, and never leaves it running.

A tool runs in its own process group, and has a folder of its own for temporary files. Whatever ends the wait (Ctrl-C,
SIGTERM, a time-out or an error) ends the whole group: first by SIGTERM, and after :data:`GRACE_S` by SIGKILL. Then the
folder is deleted: a tool that is ended does not always delete its files.
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
"""Seconds between SIGTERM and SIGKILL."""

_GROUPS = hasattr(os, "killpg")
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(BaseException):
    """Signal ``number`` told the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Ended:
    """The result of a tool that has ended.

    Attributes
    ----------
    status : int
        Its exit status, or minus the number of the signal that ended it.
    output : str
        Its standard output, and its standard error unless that is separate.
    errors : str
        Its standard error, if separate.
    """

    status: int
    output: str
    errors: str = ""


class _Children:
    """The tools that are running, so that a signal handler can end those of all threads."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.ending = False
        self.undisturbed = False
        self.held: int | None = None  # a signal that came while :func:`undisturbed`

    def end(self) -> None:
        """Tells all tools to end, and has a thread kill those that do not; it does not wait for them."""
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
    """Runs ``command`` and waits for it to end.

    Parameters
    ----------
    command : sequence of str
    folder : Path, optional
        Working folder.
    env : mapping, optional
        The environment, but for the folder for temporary files.
    input : str, optional
        Its standard input; empty by default.
    timeout : float, optional
        Seconds after which it is ended.
    separate : bool
        Whether standard error is kept separate from standard output.
    output : text file, optional
        A file that receives both outputs instead.
    on_line : callable, optional
        Called with every line of both outputs as it comes.

    Raises
    ------
    FewbitError
        If it cannot be started, or no temporary folder can be made.
    subprocess.TimeoutExpired
        If it does not end within ``timeout`` seconds.
    """
    with temporary_folder() as scratch:
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
        environment = {**(os.environ if env is None else env), **temporary}
        process = _start(command, folder, environment, input is not None, separate, output)
        return _wait(process, input, timeout, on_line)


def _wait(
    process: subprocess.Popen[str],
    input: str | None,
    timeout: float | None,
    on_line: Callable[[str], object] | None,
) -> Ended:
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
        if _children.ending:  # the tool has ended, but its own child processes may not have
            _end(process)
        _forget(process)


def failure(name: str, ended: Ended, log: Path | None = None) -> str:
    """Why a tool failed, as text: its signal or exit status, and the last line that it wrote.

    Parameters
    ----------
    name : str
        Name of the tool for the user.
    ended : Ended
    log : Path, optional
        The file that it wrote its messages to, if that is not its output.
    """
    text = ended.errors.strip() or ended.output.strip()
    if log is not None:
        with contextlib.suppress(OSError):
            text = log.read_text(encoding="utf-8", errors="replace").strip() or text
    last = text.splitlines()[-1].strip() if text else ""
    return f"{name} {_how(ended.status)}; " + (f"its last line: {last}" if last else "it wrote nothing")


def _how(status: int) -> str:
    # Shells, make and Python report the signal of a child process as exit status 128 + signal.
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
    """A temporary folder, deleted on exit. Raises FewbitError if none can be made."""
    try:
        holder = tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True)
    except OSError as error:
        why = f"no temporary folder can be made: {reason(error)}; set TMPDIR to one that can be written"
        raise FewbitError(why) from None
    with holder as name:
        yield Path(name)


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """While this context is active, SIGINT, SIGTERM and SIGHUP end all tools and raise :class:`Terminated`.

    After the first signal all further ones are ignored, also after the context, so that they cannot interrupt the
    clean-up of the program that is ending. In a thread other than the main one the context does nothing.
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

    # Signals that the caller ignores, as nohup does, stay ignored.
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
    """Whether a signal has told the program to end; then the signal is the reason why tools fail."""
    return _children.ending


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """While this context is active, signals are delayed until its end. For short steps that must be completed, such as
    replacing one file after another."""
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
    env: Mapping[str, str],
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
    except BaseException:  # a signal during the start
        if process is not None:
            _end(process)
            _forget(process)
        raise
    if _children.ending:  # the main thread got a signal during the start
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
    """Ends a tool and all processes that it started, and waits until they are gone."""
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
