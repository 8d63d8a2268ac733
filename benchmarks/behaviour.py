"""Regression check for refactoring: golden scores, plans with cycles and costs, and generated Verilog must not change.

    python -m benchmarks.behaviour save FILE [NETWORK ...]
    python -m benchmarks.behaviour compare FILE [NETWORK ...]

``save`` writes the following facts for every shipped network, or for those named: a hash of the scores of
:data:`FRAMES` frames; for each target, the plan as ``fewbit info`` prints it or the reason why there is none; and a
hash of the Verilog for boards, for the first target of :data:`VERILOG` that the network fits. ``compare`` prints the
facts that have changed since, and ends with status 1 if there are any.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.command import command
from benchmarks.stimulus import random_frames
from fewbit.generator import design
from fewbit.golden.errors import FewbitError, reason
from fewbit.golden.network import Network
from fewbit.golden.run import run
from fewbit.models import shipped
from fewbit.report import describe_plan

FRAMES = 16
TARGETS = ("up5k", "hx8k", "ecp5-25k", "ecp5-85k", "asic")
VERILOG = ("up5k", "ecp5-25k", "ecp5-85k")

_PLACE = re.compile(r"\(\* src = .*? \*\)")


def digest(data: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()[:16]


def behaviour(network: Network) -> dict[str, str]:
    """The facts about a network that are compared, by name."""
    facts = {"scores": digest(run(network, random_frames(network, FRAMES, 5)).scores.tobytes())}
    written = False
    for target in TARGETS:
        try:
            planned = design(network, target)
            facts[f"plan on {target}"] = describe_plan(planned.plan)
        except FewbitError as error:
            facts[f"plan on {target}"] = str(error)
            continue
        if target in VERILOG and not written:
            # Source locations may change.
            text = _PLACE.sub("", planned.mapped_verilog)
            facts[f"Verilog for {target}"] = digest(text.encode())
            written = True
    return facts


def main(arguments: list[str]) -> None:
    if len(arguments) < 2 or arguments[0] not in ("save", "compare"):
        raise FewbitError("the arguments must be save or compare, a file, and optionally names of networks")
    what, path, *names = arguments
    try:
        before: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")) if what == "compare" else {}
    except (OSError, ValueError) as error:
        raise FewbitError(f"{path}: {reason(error) if isinstance(error, OSError) else 'not JSON'}") from error
    now, differ = {}, 0
    for name in names or shipped():
        now[name] = behaviour(models.shipped(name))
        if what == "save":
            print(f"{name}: {len(now[name])} facts", flush=True)
            continue
        changed = [key for key in now[name] | before[name] if now[name].get(key) != before[name].get(key)]
        differ += len(changed)
        print(f"{name}: {len(now[name])} facts, {len(changed)} differ", flush=True)
        for key in changed:
            print(f"--- {key}, before:\n{before[name].get(key)}\n--- now:\n{now[name].get(key)}", flush=True)
    if what == "save":
        Path(path).write_text(json.dumps(now, indent=1), encoding="utf-8")
    elif differ:
        raise SystemExit(1)


if __name__ == "__main__":
    command("behaviour", main)
