"""Time of ``import fewbit``, compared with an interpreter that imports nothing: python -m benchmarks.imports

In milliseconds, the best of :data:`RUNS` runs of a new interpreter.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.command import command

RUNS = 10
SCRIPTS = {"nothing": "pass", "fewbit": "import fewbit", "fewbit.load": "import fewbit; fewbit.load"}


def seconds(script: str) -> float:
    """Run time of a Python ``script`` in a new interpreter."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True)
    return time.perf_counter() - began


def main(arguments: list[str]) -> None:
    best = dict.fromkeys(SCRIPTS, float("inf"))
    for _ in range(RUNS):
        for name, script in SCRIPTS.items():
            best[name] = min(best[name], seconds(script))
    for name, best_time in best.items():
        print(f"{name:12} {1000 * best_time:6.0f} ms, {1000 * (best_time - best['nothing']):+5.0f}")


if __name__ == "__main__":
    command("imports", main)
