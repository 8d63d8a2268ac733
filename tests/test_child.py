"""The one place that starts tools: what they give, how they end, and that none is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fewbit.golden.errors import FewbitError
from fewbit.hw import child

SLEEPERS = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def python(code):
    return [sys.executable, "-c", code]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_output_errors_and_status(tmp_path):
    code = "import sys, os; print(os.getcwd()); print('no', file=sys.stderr); sys.exit(3)"
    assert child.run(python(code), folder=tmp_path, separate=True) == child.Ended(3, f"{tmp_path}\n", "no\n")
    both = child.run(python(code), folder=tmp_path)
    assert sorted(both.output.split()) == sorted(["no", str(tmp_path)])


def test_input_environment_and_a_file_for_the_output(tmp_path):
    code = "import sys, os; print(sys.stdin.read() + os.environ['WORD'])"
    with (tmp_path / "out").open("w") as file:
        ended = child.run(python(code), input="a ", env={**os.environ, "WORD": "b"}, output=file)
    assert ended == child.Ended(0, "")
    assert (tmp_path / "out").read_text() == "a b\n"


def test_lines_as_they_come():
    lines = []
    ended = child.run(python("print('one'); print('two')"), on_line=lines.append)
    assert (lines, ended.output) == (["one", "two"], "one\ntwo\n")


def test_a_tool_that_is_not_there():
    with pytest.raises(FewbitError, match=r"^the tool /no/such does not start: no such file or directory$"):
        child.run(["/no/such"])


def test_a_time_out_ends_the_whole_group():
    pids = []
    with pytest.raises(subprocess.TimeoutExpired) as late:
        child.run(python(SLEEPERS), timeout=1.5)
    pids = [int(pid) for pid in late.value.output.split()] if late.value.output else []
    assert pids
    assert not any(alive(pid) for pid in pids)


def test_an_error_ends_the_whole_group():
    pids = []

    def stop(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.run(python(SLEEPERS), on_line=stop)
    assert len(pids) == 1
    assert not alive(pids[0])


def test_a_tool_that_ignores_its_end_is_killed(monkeypatch):
    monkeypatch.setattr(child, "GRACE_S", 0.3)

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.run(python(STUBBORN), on_line=stop)
    assert not child._children.running


def test_tools_of_other_threads_are_ended_too(monkeypatch):
    monkeypatch.setattr(child, "GRACE_S", 0.3)
    ended, up = [], threading.Event()

    def work():
        try:
            ended.append(child.run(python(STUBBORN), on_line=lambda line: up.set()).status)
        except FewbitError as error:
            ended.append(str(error))

    thread = threading.Thread(target=work)
    with child.signals():
        thread.start()
        assert up.wait(20)
        child._children.end()
        with pytest.raises(FewbitError, match=r"^interrupted$"):
            child.run(python("print('never')"))
        thread.join(20)
    assert ended == [-9]
    assert child.run(python("print('again')")).output == "again\n"


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in child._SIGNALS]
    with child.signals():
        assert [signal.getsignal(number) for number in child._SIGNALS] != before
    assert [signal.getsignal(number) for number in child._SIGNALS] == before


def test_only_the_first_signal_counts():
    before = [signal.getsignal(number) for number in child._SIGNALS]
    try:
        with pytest.raises(child.Terminated) as told:
            told_twice()
        assert told.value.number == signal.SIGTERM
        assert {signal.getsignal(number) for number in child._SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in zip(child._SIGNALS, before):
            signal.signal(number, handler)


def told_twice():
    with child.signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)


@pytest.mark.parametrize(
    "ended, text",
    [
        (child.Ended(1, "one\ntwo\n"), "tool failed with exit status 1; its last line: two"),
        (child.Ended(1, ""), "tool failed with exit status 1; it wrote nothing"),
        (child.Ended(2, "out\n", "err\n"), "tool failed with exit status 2; its last line: err"),
        (child.Ended(-11, "x"), "tool was ended by SIGSEGV (exit status -11); its last line: x"),
        (
            child.Ended(-9, "x"),
            "tool was ended by SIGKILL, as the system does when memory runs out (exit status -9); its last line: x",
        ),
        (child.Ended(134, "x"), "tool was ended by SIGABRT (exit status 134); its last line: x"),
        (child.Ended(255, "x"), "tool failed with exit status 255; its last line: x"),
    ],
)
def test_failures_in_words(ended, text):
    assert child.failure("tool", ended) == text


def test_the_last_line_of_a_log(tmp_path):
    (tmp_path / "log").write_text("first\nlast\n\n")
    assert (
        child.failure("t", child.Ended(1, "x"), tmp_path / "log") == "t failed with exit status 1; its last line: last"
    )
    assert child.failure("t", child.Ended(1, "x"), tmp_path / "no") == "t failed with exit status 1; its last line: x"


def test_a_real_tool_that_is_killed():
    ended = child.run(python("import os; print('working', flush=True); os.kill(os.getpid(), 9)"))
    assert child.failure("place and route", ended).startswith(
        "place and route was ended by SIGKILL, as the system does"
    )


DAEMON = """
import subprocess, sys, time
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
grandchild = subprocess.Popen(
    [sys.executable, "-c", ignore], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
)
grandchild.stdout.readline()
print(grandchild.pid, flush=True)
time.sleep(60)
"""


def test_what_a_tool_of_another_thread_leaves_is_ended(monkeypatch):
    """The tool itself ends when told to; what it started does not, and holds none of its pipes."""
    monkeypatch.setattr(child, "GRACE_S", 0.3)
    pids, up = [], threading.Event()

    def take(line):
        pids.append(int(line))
        up.set()

    thread = threading.Thread(target=lambda: child.run(python(DAEMON), on_line=take))
    with child.signals():
        thread.start()
        assert up.wait(20)
        child._children.end()
        thread.join(20)
    left = alive(pids[0])
    if left:
        os.kill(pids[0], signal.SIGKILL)
    assert not left


def test_a_signal_while_a_tool_fails_to_start_is_not_lost():
    code = """
import os, signal, subprocess, sys
from fewbit.golden.errors import FewbitError
from fewbit.hw import child

def start(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
    raise FileNotFoundError(2, "No such file or directory")

subprocess.Popen = start
try:
    with child.signals():
        try:
            child.run(["tool"])
        except FewbitError:
            pass
except child.Terminated as told:
    sys.exit(128 + told.number)
"""
    assert subprocess.run(python(code), check=False).returncode == 143


def test_a_signal_waits_for_what_is_not_disturbed():
    before = [signal.getsignal(number) for number in child._SIGNALS]
    done = []
    try:
        with pytest.raises(child.Terminated):
            disturbed(done)
        assert done == ["first", "second", "both"]
    finally:
        for number, handler in zip(child._SIGNALS, before):
            signal.signal(number, handler)


def disturbed(done):
    with child.signals(), child.undisturbed():
        done.append("first")
        os.kill(os.getpid(), signal.SIGTERM)
        with child.undisturbed():
            time.sleep(0.05)
            done.append("second")
        done.append("both")
