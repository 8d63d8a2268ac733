"""How long ``import fewbit`` takes, beside an interpreter that imports nothing: python -m benchmarks.imports

Milliseconds, the best of :data:`RUNS` fresh interpreters of each kind, in turn.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.command import command

RUNS = 10
SCRIPTS = {"nothing": "pass", "fewbit": "import fewbit", "fewbit.load": "import fewbit; fewbit.load"}


def seconds(script: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True)
    return time.perf_counter() - began


def main(arguments: list[str]) -> None:
    best = dict.fromkeys(SCRIPTS, float("inf"))
    for _ in range(RUNS):
        for name, script in SCRIPTS.items():
            best[name] = min(best[name], seconds(script))
    for name, found in best.items():
        print(f"{name:12} {1000 * found:6.0f} ms, {1000 * (found - best['nothing']):+5.0f}")


if __name__ == "__main__":
    command("imports", main)
