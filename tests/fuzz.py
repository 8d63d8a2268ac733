"""Mutants of real files, seeded: each is refused in one line, or loads and is what other programs make of it.

    python tests/fuzz.py --kind onnx --seed 0 --count 2000

Mutant ``seed + n`` of a kind is always the same. They run in processes of their own, so that one that kills its
process, or takes more time or memory than a file may, is told of like any other. What is wrong is written to a folder,
and the exit status is 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_files
import fuzz_onnx
import fuzz_qdq
import fuzz_tflite

import fewbit
from fewbit.golden.errors import FewbitError
from fewbit.importers.obstacles import Obstacles

KINDS = {
    "onnx": (fuzz_onnx.mutant, fuzz_onnx.check, ".onnx"),
    "qdq": (fuzz_qdq.mutant, fuzz_qdq.check, ".onnx"),
    "tflite": (fuzz_tflite.mutant, fuzz_tflite.check, ".tflite"),
} | fuzz_files.KINDS
_SOURCE = Path(fewbit.__file__).parent
_SECONDS = 10
"""Of processor time, for a mutant."""
_KILOBYTES = 1 << 20
"""Of memory that a mutant may add."""
_BATCH = 250
"""Mutants that run in one process, unless it dies."""


@dataclass
class Findings:
    """Counts of what became of the mutants, and what is wrong with those that should have been refused."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, str] = field(default_factory=dict)


class _OutOfTime(BaseException):
    """Raised in the middle of anything, so that nothing takes it for an error of its own."""


def outcome(kind: str, number: int, folder: Path) -> str:
    """What becomes of a mutant: ``refused``, ``loaded``, ``equal``; or what is wrong."""
    make, check, suffix = KINDS[kind]
    path = folder / f"mutant{suffix}"
    path.write_bytes(make(number))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module="onnx|qonnx|google")
            signal.setitimer(signal.ITIMER_PROF, _SECONDS)
            try:
                return check(path)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
    except FewbitError as error:
        # Several obstacles of one file have a line each.
        texts = error.lines if isinstance(error, Obstacles) else (str(error),)
        lines = any("\n" in text.replace(str(path), "") for text in texts)
        return "wrong: its message has several lines" if lines else "refused"
    except _OutOfTime:
        return f"wrong: takes more than {_SECONDS} s"
    except AssertionError as error:
        return f"wrong: {str(error) or f'an assertion at {_place(error)}'}"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error} at {_place(error)}"


def _place(error: BaseException) -> str:
    """Where in fewbit it was raised, or else where in the tests."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_SOURCE)] or frames[:3]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _work(kind: str, numbers: list[int], pipe: Any) -> None:
    def out_of_time(*_: Any) -> None:
        raise _OutOfTime

    signal.signal(signal.SIGPROF, out_of_time)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            said = outcome(kind, number, Path(folder))
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            pipe.send((number, f"wrong: takes {grown >> 10} MiB" if grown > _KILOBYTES else said))
    pipe.close()


def fuzz(kind: str, numbers: Iterable[int]) -> Findings:
    """Runs the mutants ``numbers`` of a ``kind``, in processes of :data:`_BATCH` each."""
    findings, left = Findings(), list(numbers)
    forked = multiprocessing.get_context("fork")
    while left:
        batch, left = left[:_BATCH], left[_BATCH:]
        ours, theirs = forked.Pipe(duplex=False)
        worker = forked.Process(target=_work, args=(kind, batch, theirs))
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside threads, which pytest-xdist has; the child uses none of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            worker.start()
        theirs.close()
        while True:
            try:
                number, said = ours.recv()
            except EOFError:
                break
            batch.remove(number)
            findings.counts[said.partition(":")[0]] += 1
            if said.startswith("wrong"):
                findings.wrong[number] = said.removeprefix("wrong: ")
        worker.join()
        if batch:  # the process died of the first one that is left
            findings.counts["wrong"] += 1
            findings.wrong[batch[0]] = f"kills its process ({worker.exitcode})"
            left = batch[1:] + left
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000, help="mutants of each kind")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for what is wrong")
    arguments = parser.parse_args()
    status = 0
    for kind in arguments.kind or KINDS:
        began = time.perf_counter()
        findings = fuzz(kind, range(arguments.seed, arguments.seed + arguments.count))
        rate = arguments.count / (time.perf_counter() - began)
        told = ", ".join(f"{count} {name}" for name, count in sorted(findings.counts.items()))
        print(f"{kind}: {arguments.count} mutants, {told}; {rate:.0f} a second")
        make, _, suffix = KINDS[kind]
        for number, said in sorted(findings.wrong.items()):
            arguments.out.mkdir(parents=True, exist_ok=True)
            path = arguments.out / f"{kind}_{number}{suffix}"
            path.write_bytes(make(number))
            print(f"  {path}: {said[:300]}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
