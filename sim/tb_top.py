"""cocotb bench of a whole design: the tests of :mod:`fewbit.sim.tb_stream`, and the exact cycles of the plan.

``$FEWBIT_VECTORS`` names a file that :func:`fewbit.sim.vectors.network_vectors` made, with ``latency`` and
``interval``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cocotb

from fewbit.sim import tb_stream
from fewbit.sim.bench import Bench
from fewbit.sim.tb_stream import VECTORS, check

frames, idle_gaps, reset_in_mid_frame = tb_stream.frames, tb_stream.idle_gaps, tb_stream.reset_in_mid_frame


@cocotb.test()
async def cycles_as_planned(dut: Any) -> None:
    """With both ends always active, the first frame's latency and the interval in a full pipeline are as planned."""
    bench = Bench(dut)
    await bench.start(VECTORS.image)
    await bench.idle(3)
    began = bench.monitor.cycle
    bench.driver.queue.extend(VECTORS.words)
    # No frame takes longer than a frame into an idle design.
    allowed = 10_000 + 100 * len(VECTORS.expected) + VECTORS.latency * VECTORS.frames
    while len(bench.monitor.words) < len(VECTORS.expected):
        await bench.idle(1)
        assert bench.monitor.cycle - began < allowed, "the frames do not come"
    check(bench.monitor.words, VECTORS.expected, VECTORS)
    ends = bench.monitor.cycles[VECTORS.beats_out - 1 :: VECTORS.beats_out]
    latency, gaps = ends[0] - began + 1, [later - earlier for earlier, later in pairwise(ends)]
    if VECTORS.latency:
        assert latency == VECTORS.latency, f"latency is {latency} cycles, the plan says {VECTORS.latency}"
    if VECTORS.interval and gaps:
        assert gaps[-1] == VECTORS.interval, f"interval is {gaps[-1]} cycles, the plan says {VECTORS.interval} ({gaps})"
