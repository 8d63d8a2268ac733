"""What a rebuilding must leave as it is: golden scores, plans with their cycles and costs, and generated Verilog.

    python -m benchmarks.behaviour save FILE [NETWORK ...]
    python -m benchmarks.behaviour compare FILE [NETWORK ...]

``save`` writes what this code gives, of every shipped network or of those named: a hash of the scores of
:data:`FRAMES` frames; on each target the plan as ``fewbit info`` prints it, or why there is none; and a hash of the
Verilog that boards get, on the first target of :data:`VERILOG` that the network fits. ``compare`` says in what this
code differs from that, and ends with status 1 if it does.
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
    return hashlib.sha256(data).hexdigest()[:16]


def behaviour(network: Network) -> dict[str, str]:
    """What is compared of a network, each under its name."""
    found = {"scores": digest(run(network, random_frames(network, FRAMES, 5)).scores.tobytes())}
    written = False
    for target in TARGETS:
        try:
            made = design(network, target)
            found[f"plan on {target}"] = describe_plan(made.plan)
        except FewbitError as error:
            found[f"plan on {target}"] = str(error)
            continue
        if target in VERILOG and not written:
            # Where in the source a signal was made may change.
            text = _PLACE.sub("", made.mapped_verilog)
            found[f"Verilog for {target}"] = digest(text.encode())
            written = True
    return found


def main(arguments: list[str]) -> None:
    if len(arguments) < 2 or arguments[0] not in ("save", "compare"):
        raise FewbitError("behaviour takes save or compare, a file, and names of networks")
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
