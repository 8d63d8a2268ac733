# amaranth: UnusedElaboratable=no
"""The folded binary layer with fused thresholds: XNOR, popcount and accumulation; the sign of the sum is the result."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import BIPOLAR, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense, Threshold
from fewbit.hw.matvec.base import check_fold
from fewbit.hw.matvec.binary_mac import BinaryMac
from fewbit.hw.memory.kinds import Stored, fill_member, place
from fewbit.hw.memory.rom import BLOCK, rom_words
from fewbit.hw.memory.vector_buffer import RING, VectorBuffer
from fewbit.hw.steps import RunStep, Step
from fewbit.hw.streams import lane_stream, shape_of

STARTS = 2
"""Words of the weight memory that hold the start value of a sum."""


def fuses(layer: Dense, threshold: Threshold) -> bool:
    """Whether ``threshold`` behind ``layer`` can be fused into its weight words: binary weights and inputs, one
    threshold for each output, and results of one bit."""
    return (
        layer.code.signs_only
        and layer.scales is None
        and threshold.thresholds.shape[1] == 1
        and threshold.channels in (1, layer.outputs)
        and (threshold.dtype == BIPOLAR or (threshold.dtype.bits == 1 and threshold.base == 0))
    )


def has_starts(inputs: int, simd: int) -> bool:
    """Whether words of SIMD bits can hold the start value of every sum of ``inputs`` inputs, for any thresholds."""
    bits = sum_bits(inputs)
    for low in range(min(simd.bit_length(), bits - 1) + 1):
        upper = bits - low
        if upper <= simd and min(simd, (1 << low) - 1) + simd - upper >= (1 << low) + upper - 2:
            return True
    return False


def sum_bits(inputs: int) -> int:
    """Bits of a sum whose sign is the result: a start value can be as low as ``2**(bits - 1) - inputs - 1``, and a sum
    adds up to ``inputs``."""
    return (inputs + 1).bit_length() + 1


class SignUnit(wiring.Component):
    """``y[o] = [sign[o] * (2 agree[o] - inputs) >= t[o]]``, where ``agree[o]`` is the number of inputs that equal the
    bit of their weight in ``w[o]``.

    A sum starts at ``2**(bits - 1) - T``, where ``T`` is the smallest ``agree`` that reaches the threshold, so its
    highest bit is the result. The start value is in the weight memory, as two more words for each sum, which are read
    while the inputs are set to 0: the zeros in both words are counted, and the lowest bits of the second word are the
    highest bits of the sum. For a negative sign the weights are stored inverted. So thresholds and signs take no logic
    cells.

    The vector is read from a component such as :class:`fewbit.hw.memory.vector_buffer.VectorBuffer`.

    **Throughput**: a frame in ``cycles_per_frame = (outputs / PE) * (inputs / SIMD + 2)`` cycles, while ``available``.
    **Latency**: ``latency`` cycles from reading the last word of a group to its beat. Up to ``results`` beats wait for
    ``o.ready`` in a FIFO. A sum starts only if there is room for its beat, so the array itself never stalls. Cost: that
    of :class:`fewbit.hw.matvec.binary_mac.BinaryMac`, SIMD flip-flops, and the memory.

    Source: thresholds that replace batch norm and sign are from FINN, arXiv 1612.07119, section 4.2.2.

    Parameters
    ----------
    layer : Dense
        Binary weights; its inputs are bipolar.
    threshold : Threshold
        Follows the layer; one threshold for each output, or one for all.
    pe, simd : int
        Outputs and inputs that are processed at a time; they divide those of the layer.
    memory : ``"block"``, ``"logic"`` or ``"spram"``
        Memory for the weights.
    stages : int
        Pipeline stages in a popcount, 1 to ``inputs / SIMD``.
    read_register : int
        Pipeline stages behind the weight memory: one if the memory is slow, two if it is also far from the popcounts.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
    groups : int
        Vectors of a frame, each for its own share of the outputs.

    Members
    -------
    available : In(1)
        A vector is there.
    next : Out(1)
        Requests the next word, only while ``available``; the word is on ``word`` from the next cycle on.
    last : Out(1)
        With ``next``: the vector is not read again.
    word : In(simd)
    o : Out(stream of PE lanes)
    fill : In(fill_signature())
        Loads SPRAM with the words that :meth:`stored` returns, while there is no vector; absent for other memories.

    Raises
    ------
    FewbitError
        If the threshold cannot be fused, PE or SIMD do not divide the layer, or SIMD is too small for the start values.
    """

    def __init__(
        self,
        layer: Dense,
        threshold: Threshold,
        *,
        pe: int,
        simd: int,
        memory: str = BLOCK,
        stages: int = 1,
        read_register: int = 0,
        target: str = "generic",
        groups: int = 1,
    ) -> None:
        if not fuses(layer, threshold):
            raise FewbitError(
                f"layer {threshold.name!r}: only thresholds from binary weights to bits, one a channel, can be fused"
            )
        check_fold(layer, pe, simd, memory, groups)
        self.words, self.folds = layer.fan_in // simd, layer.outputs // pe
        if not 1 <= stages <= self.words:
            raise FewbitError(f"layer {layer.name!r}: the sum has 1 to {self.words} stages, not {stages}")
        self.layer, self.threshold, self.memory, self.groups = layer, threshold, memory, groups
        self.pe, self.simd, self.stages, self.read_register, self.target = pe, simd, stages, read_register, target
        self.reads = self.words + STARTS
        self.cycles_per_frame = self.reads * self.folds
        self.bits = sum_bits(layer.fan_in)
        self.low, self._starts = self._encode_starts()
        self.mac = BinaryMac(pe, simd, self.bits, low=self.low, stages=stages, target=target)
        self.latency = 3 + read_register + self.mac.latency
        self.results = 1 + -(-(self.latency + 1) // self.reads)
        super().__init__(
            {
                "available": In(1),
                "next": Out(1),
                "last": Out(1),
                "word": In(simd),
                "o": Out(lane_stream(shape_of(threshold.dtype), pe)),
            }
            | fill_member(layer, memory, self.stored)
        )

    def _encode_starts(self) -> tuple[int, Ints]:
        """Position of the highest bits that the second word holds, and both start words.  # () -> int, (outputs,
        2, SIMD)"""
        inputs, outputs = self.layer.fan_in, self.layer.outputs
        least_agree = -(-(self.threshold.thresholds[:, 0].astype(object) + inputs) // 2)
        starts = (1 << self.bits - 1) - np.clip(np.broadcast_to(least_agree, outputs), 0, inputs + 1).astype(np.int64)
        count = self.simd.bit_length()
        for low in range(min(count, self.bits - 1), -1, -1):
            upper = self.bits - low
            if upper <= self.simd:
                words = [start_words(int(value), self.bits, low, self.simd) for value in starts]
                if None not in words:
                    return low, np.array(words)
        raise FewbitError(f"layer {self.layer.name!r}: a SIMD of {self.simd} is too small for fused thresholds")

    def stored(self) -> Stored:
        """Bits of a word of the weight memory, and its words."""
        return self.pe * self.simd, self._memory_words()

    def _memory_words(self) -> list[int]:
        """The words in the order of reading: for each sum the first start word, weights, the second start word, more
        weights."""
        weights = self.layer.weights * np.where(self.threshold.sign < 0, -1, 1)[:, None]
        bits = self.layer.code.encode(weights).astype(np.uint8).reshape(-1, self.words, self.simd)
        rows = np.concatenate(
            [self._starts[:, :1], bits[:, : self.stages - 1], self._starts[:, 1:], bits[:, self.stages - 1 :]], axis=1
        )
        folded = rows.reshape(self.folds, self.pe, self.reads, self.simd).transpose(0, 2, 1, 3)
        return rom_words(folded.reshape(self.folds * self.reads, -1), 1)

    def elaborate(self, platform: object) -> Module:
        # `issue` requests a word of the vector, or none if a start word is next; a cycle later the memory is read, and
        # in the following cycle both reach the array, which never stalls: a sum starts only if there is `room` for its
        # result, with `begun` counting the sums that have started and whose results have not been taken.
        m = Module()
        m.submodules.mac = mac = self.mac
        m.submodules.results = results = SyncFIFO(width=self.pe, depth=self.results)
        read = place(m, self, self.target)

        begin, issue, start, taken = Signal(), Signal(), Signal(), Signal()
        share = self.folds // self.groups
        index, fold = Signal(range(self.reads)), Signal(range(share))
        begun, room = Signal(range(self.results + 1)), Signal(init=1)
        busy = index != 0
        last_index = index == self.reads - 1
        m.d.comb += [
            begin.eq(~busy & room & self.available),
            issue.eq(busy | begin),
            start.eq(~busy | (index == self.stages)),
            self.next.eq(issue & ~start),
            self.last.eq(last_index & (fold == share - 1)),
            taken.eq(self.o.valid & self.o.ready),
        ]
        with m.If(issue):
            m.d.sync += index.eq(Mux(last_index, 0, index + 1))
        with m.If(last_index):
            m.d.sync += fold.eq(Mux(fold == share - 1, 0, fold + 1))
        following = begun + begin - taken
        m.d.sync += [begun.eq(following), room.eq(following != self.results)]

        asked, begins, ends, still = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [asked.eq(issue), begins.eq(begin), ends.eq(last_index), still.eq(start)]
        address = Signal(range(self.cycles_per_frame))
        m.d.comb += read.addr.eq(address)
        with m.If(asked):
            m.d.sync += address.eq(Mux(address == self.cycles_per_frame - 1, 0, address + 1))

        x = Signal(self.simd, reset_less=True)
        m.d.sync += x.eq(self.word)
        with m.If(still):
            m.d.sync += x.eq(0)
        w: Value = read.data
        for stage in range(self.read_register):
            held_x = Signal(self.simd, name=f"held_x_{stage}", reset_less=True)
            held_w = Signal(len(w), name=f"held_w_{stage}", reset_less=True)
            m.d.sync += [held_x.eq(x), held_w.eq(w)]
            x, w = held_x, held_w
        delay = 1 + self.read_register
        upper = self.bits - self.low
        m.d.comb += [
            mac.x.eq(x),
            mac.w.eq(w),
            mac.first.eq(_later(m, "begins", begins, delay)),
            mac.preset.eq(Cat(*(w.word_select(pe, self.simd)[:upper] for pe in range(self.pe)))),
            results.w_en.eq(_later(m, "ends", ends, delay + mac.latency)),
            results.w_data.eq(mac.sign),
            results.r_en.eq(self.o.ready),
            self.o.valid.eq(results.r_rdy),
            self.o.payload.eq(results.r_data),
        ]
        return m


def _later(m: Module, name: str, signal: Value, cycles: int) -> Value:
    for stage in range(cycles):
        register = Signal(name=f"{name}_{stage}")
        m.d.sync += register.eq(signal)
        signal = register
    return signal


class SignMatVec(wiring.Component):
    """A :class:`SignUnit` with a buffer for its vectors, between streams.

    **Throughput**: a frame in ``cycles_per_frame = (outputs / PE) * (inputs / SIMD + 2)`` cycles, if the input is fast
    enough. **Latency**: ``latency`` cycles from reading the last word of a group to its beat; the first word is read
    ``buffer.latency`` cycles after the vector is complete.

    Parameters
    ----------
    layer, threshold, pe, simd, memory, stages, read_register, target, groups
        See :class:`SignUnit`.
    buffer : ``"block"``, ``"distributed"`` or ``"ring"``
        Style of the :class:`fewbit.hw.memory.vector_buffer.VectorBuffer`.

    Attributes
    ----------
    step, bias, sum
        See :class:`fewbit.hw.matvec.base.MatrixVector`; the outputs are of the threshold's kind, not sums.

    Members
    -------
    i : In(stream of SIMD lanes)
    o : Out(stream of PE lanes)
    fill : In
        The port of the :class:`SignUnit`, if it has one.
    """

    def __init__(
        self, layer: Dense, threshold: Threshold, *, pe: int, simd: int, buffer: str = "block", **options: Any
    ) -> None:
        self.unit = SignUnit(layer, threshold, pe=pe, simd=simd, **options)
        self.layer, self.threshold, self.pe, self.simd = layer, threshold, pe, simd
        self.lanes_in, self.groups = simd, self.unit.groups
        self.words, self.cycles_per_frame, self.latency = self.unit.words, self.unit.cycles_per_frame, self.unit.latency
        self.step, self.bias, self.sum = 1, np.zeros(layer.outputs, np.int64), threshold.dtype
        self.buffer = VectorBuffer(shape_of(BIPOLAR), simd, self.words, buffer)
        streams = {"i": In(lane_stream(shape_of(BIPOLAR), simd)), "o": Out(lane_stream(shape_of(threshold.dtype), pe))}
        super().__init__(
            streams | {name: member for name, member in self.unit.signature.members.items() if name == "fill"}
        )

    def stored(self) -> Stored:
        """Bits of a word of the weight memory, and its words."""
        return self.unit.stored()

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        unit = self.unit
        return [
            RunStep(
                unit.words,
                unit.folds // unit.groups,
                unit.latency,
                unit.reads,
                unit.results,
                rings=self.buffer.style == RING,
            )
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        m.submodules.unit = unit = self.unit
        wiring.connect(m, wiring.flipped(self.i), buffer.i)
        wiring.connect(m, unit.o, wiring.flipped(self.o))
        m.d.comb += [
            unit.available.eq(buffer.available),
            buffer.next.eq(unit.next),
            buffer.last.eq(unit.last),
            unit.word.eq(buffer.word),
        ]
        if "fill" in self.signature.members:
            wiring.connect(m, wiring.flipped(self.fill), unit.fill)
        return m


def start_words(value: int, bits: int, low: int, simd: int) -> list[list[int]] | None:
    """Both start words of a sum that starts at ``value``, modulo ``2**bits``; None if there are none.

    The array counts the zeros of both words, of which the first has fewer than ``2**low``. The lowest bits of the
    second word are the bits of the sum from ``low`` on.
    """
    upper = bits - low
    first_most = min(simd, (1 << low) - 1)
    for guess in range(-2, 3):
        top = ((value >> low) + guess) % (1 << upper)
        upper_zeros = upper - top.bit_count()
        zeros_left = (value - (top << low) - upper_zeros) % (1 << bits)
        if zeros_left <= first_most + simd - upper:
            first_zeros = min(zeros_left, first_most)
            second = [top >> k & 1 for k in range(upper)] + [
                int(k >= zeros_left - first_zeros) for k in range(simd - upper)
            ]
            return [[int(k >= first_zeros) for k in range(simd)], second]
    return None
