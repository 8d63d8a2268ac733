"""Switching activity of a mapped netlist: how often its nets change, with and without glitches.

    mapped = Mapped(json.loads(yosys_json), "top")
    settled = mapped.settle({"a": a, "b": b})  # arrays of (cycles, streams)
    settled.port("product", signed=True)       # the result: compare it with the golden model before counting
    settled.zero_delay(first=16), settled.glitches(first=16)
    settled.transitions()[mapped.driven_by("row3")]  # of the nets of these cells, cycle by cycle

Changes at the outputs of LUTs, carries and flip-flops are counted; changes of primary inputs are not. Clock pins are
counted separately. The count is a proxy for dynamic energy: it ignores wire loads, and is not in joules.

A simulation runs many independent streams of input values at once. Each stream is one bit of a 64-bit word.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

Words = npt.NDArray[np.uint64]

LUT_DELAY, CARRY_DELAY = 3, 1
"""Delays, in units of time: from an input to the output of a LUT (or to a sum output of CCU2C), and to a carry output.
Each bit of a carry chain has this carry delay, also within the two-bit CCU2C. Flip-flops and primary inputs change at
the clock edge."""

_ZERO, _ONE = 0, 1  # nets


@dataclass(frozen=True)
class _Gates:
    """Gates of the same kind and number of inputs: tables (gates, 2**inputs), inputs (gates, inputs), outputs."""

    kind: str
    tables: Words
    inputs: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]

    def pick(self, chosen: Any) -> _Gates:
        return _Gates(self.kind, self.tables[chosen], self.inputs[chosen], self.outputs[chosen])

    def evaluate(self, values: Words) -> Words:
        """Outputs, (gates, words): each input in turn selects one half of the table."""
        folded = self.tables[:, :, None]
        for place in range(self.inputs.shape[1]):
            low, high = folded[:, 0::2], folded[:, 1::2]
            folded = low ^ ((low ^ high) & values[self.inputs[:, place], None, :])
        return np.broadcast_to(folded[:, 0], (len(self.outputs), values.shape[1]))


@dataclass(frozen=True)
class _FlipFlops:
    """Nets of all flip-flops. The synchronous reset sets ``value``; ``over`` says whether it overrides the enable."""

    data: npt.NDArray[np.int64]
    enable: npt.NDArray[np.int64]
    enable_flip: Words
    reset: npt.NDArray[np.int64]
    reset_flip: Words
    over: Words
    value: Words
    outputs: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Activity:
    """Number of changes of nets, summed over the counted cycles and streams.

    Attributes
    ----------
    luts, carries, flip_flops : int
        Changes of nets that are driven by LUTs, carries and flip-flops. Sum outputs of carry cells count as LUTs.
    """

    luts: int
    carries: int
    flip_flops: int

    @property
    def total(self) -> int:
        """All changes."""
        return self.luts + self.carries + self.flip_flops


class Mapped:
    """A flat module of iCE40 or ECP5 cells: LUTs, carries and flip-flops of one clock.

    Parameters
    ----------
    design : dict
        Netlist as Yosys' ``write_json`` writes it.
    top : str
        Name of the module.

    Raises
    ------
    FewbitError
        If there is no such module, or it has a cell that is not modelled here.
    """

    def __init__(self, design: Mapping[str, Any], top: str) -> None:
        if top not in design["modules"]:
            raise FewbitError(f"there is no module {top} in the netlist")
        module = design["modules"][top]
        self.ports: dict[str, tuple[str, list[int]]] = {}
        self._nets: dict[Any, int] = {}
        self._count = 2
        self._gates: list[tuple[str, int, list[int], int]] = []
        self._flops: list[dict[str, Any]] = []
        self._drivers: dict[int, str] = {}
        for name, port in module["ports"].items():
            self.ports[name] = (port["direction"], [self._net(bit) for bit in port["bits"]])
        for name, cell in module["cells"].items():
            gates, flops = len(self._gates), len(self._flops)
            self._add(name, cell)
            outputs = [gate[3] for gate in self._gates[gates:]] + [flop["output"] for flop in self._flops[flops:]]
            self._drivers |= dict.fromkeys(outputs, name)
        self.levels = self._levelize()
        self.flops = self._gather()
        self.kinds: dict[int, str] = {output: kind for kind, _, _, output in self._gates}
        self.kinds |= dict.fromkeys(self.flops.outputs.tolist(), "flip_flops")

    def driven_by(self, pattern: str) -> npt.NDArray[np.int64]:
        """Nets driven by cells whose names match the regular expression ``pattern``.

        Synthesis keeps the names of instances as a part of the cell names.
        """
        return np.array([net for net, name in self._drivers.items() if re.search(pattern, name)], np.int64)

    def _net(self, bit: Any) -> int:
        if bit in ("0", "1", "x", "z"):
            return _ONE if bit == "1" else _ZERO
        if bit not in self._nets:
            self._nets[bit] = self._fresh()
        return self._nets[bit]

    def _fresh(self) -> int:
        self._count += 1
        return self._count - 1

    def _add(self, name: str, cell: Mapping[str, Any]) -> None:
        kind, pins, parameters = cell["type"], cell["connections"], cell["parameters"]

        def net(pin: str, absent: int = _ZERO) -> int:
            return self._net(pins[pin][0]) if pins.get(pin) else absent

        def drives(pin: str) -> bool:
            return bool(pins.get(pin)) and isinstance(pins[pin][0], int)

        def table(parameter: str) -> int:
            return int(parameters[parameter], 2)

        if kind == "$scopeinfo":
            return
        if kind == "SB_LUT4":
            self._gates.append(("luts", table("LUT_INIT"), [net(f"I{k}") for k in range(4)], net("O")))
        elif kind == "LUT4":
            self._gates.append(("luts", table("INIT"), [net(pin) for pin in "ABCD"], net("Z")))
        elif kind == "SB_CARRY":
            self._gates.append(("carries", 0b11101000, [net("I0"), net("I1"), net("CI")], net("CO")))
        elif kind == "CCU2C":
            carry = net("CIN")
            for half in "01":
                inputs = [*(net(f"{pin}{half}") for pin in "ABCD"), carry]
                injects = parameters.get(f"INJECT1_{half}", "YES").strip() == "YES"
                total, carried = _slot_tables(table(f"INIT{half}"), injects)
                if drives(f"S{half}"):
                    self._gates.append(("luts", total, inputs, net(f"S{half}")))
                if half == "0" and (drives("S1") or drives("COUT")):
                    carry = self._fresh()
                    self._gates.append(("carries", carried, inputs, carry))
                elif half == "1" and drives("COUT"):
                    self._gates.append(("carries", carried, inputs, net("COUT")))
        elif kind.startswith("SB_DFF") and "N" not in kind[6:]:
            self._flops.append(_ice40_flop(name, kind[6:], net))
        elif kind == "TRELLIS_FF":
            self._flops.append(_ecp5_flop(name, parameters, net))
        else:
            raise FewbitError(f"activity is not modelled for {kind} ({name})")

    def _levelize(self) -> list[list[_Gates]]:
        """Gates in topological order, grouped in levels that can be evaluated together."""
        driver = {output: k for k, (_, _, _, output) in enumerate(self._gates)}
        waits = [sum(net in driver for net in inputs) for _, _, inputs, _ in self._gates]
        readers: dict[int, list[int]] = defaultdict(list)
        for k, (_, _, inputs, _) in enumerate(self._gates):
            for net in inputs:
                readers[net].append(k)
        ready = [k for k, count in enumerate(waits) if count == 0]
        levels, done = [], 0
        while ready:
            levels.append(self._group(ready))
            done += len(ready)
            following = []
            for k in ready:
                for reader in readers[self._gates[k][3]]:
                    waits[reader] -= 1
                    if waits[reader] == 0:
                        following.append(reader)
            ready = following
        if done < len(self._gates):
            raise FewbitError("the netlist has a loop without a flip-flop in it")
        return levels

    def _group(self, chosen: list[int]) -> list[_Gates]:
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        for k in chosen:
            groups[self._gates[k][0], len(self._gates[k][2])].append(k)
        gates = []
        for (kind, size), members in sorted(groups.items()):
            tables = np.array([[self._gates[k][1] >> row & 1 for row in range(1 << size)] for k in members], bool)
            inputs = np.array([self._gates[k][2] for k in members], np.int64)
            outputs = np.array([self._gates[k][3] for k in members], np.int64)
            gates.append(_Gates(kind, _spread(tables), inputs, outputs))
        return gates

    def _gather(self) -> _FlipFlops:
        def nets(key: str) -> npt.NDArray[np.int64]:
            return np.array([flop[key] for flop in self._flops], np.int64)

        def flags(key: str) -> Words:
            return _spread(np.array([flop[key] for flop in self._flops], bool))[:, None]

        return _FlipFlops(
            data=nets("data"), enable=nets("enable"), enable_flip=flags("enable_flip"), reset=nets("reset"),
            reset_flip=flags("reset_flip"), over=flags("over"), value=flags("value"), outputs=nets("output"),
        )  # fmt: skip

    def settle(self, inputs: Mapping[str, Ints]) -> Settled:
        """Simulate without delays: the value of every net at the end of every cycle.

        All flip-flops start at 0. Input ports that are not in ``inputs`` stay 0.

        Parameters
        ----------
        inputs : dict of (cycles, streams) integers or (cycles, bits, streams) bits
            Values of each input port. Ports wider than an integer are given as bits, lowest first. The number of
            streams must be a multiple of 64.

        Raises
        ------
        FewbitError
            If a port is unknown, or the arrays do not have one common shape.
        """
        shapes = {(*np.shape(values)[:1], *np.shape(values)[1:][-1:]) for values in inputs.values()}
        if unknown := sorted(inputs.keys() - {name for name, (way, _) in self.ports.items() if way == "input"}):
            raise FewbitError(f"the netlist has no input {unknown[0]}")
        if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or shape[1] % 64:
            raise FewbitError("stimuli must be arrays of one shape, (cycles, streams), streams a multiple of 64")
        states = np.zeros((shape[0], self._count, shape[1] // 64), np.uint64)
        states[:, _ONE] = ~np.uint64(0)
        for name, values in inputs.items():
            for place, net in enumerate(self.ports[name][1]):
                bit = values[:, place] if values.ndim == 3 else values >> place & 1
                states[:, net] = pack(bit)
        enabled = np.zeros((shape[0], len(self.flops.outputs), shape[1] // 64), np.uint64)
        for cycle in range(shape[0]):
            if cycle:
                enabled[cycle], states[cycle, self.flops.outputs] = self._clock(states[cycle - 1])
            for level in self.levels:
                for gates in level:
                    states[cycle, gates.outputs] = gates.evaluate(states[cycle])
        return Settled(self, states, enabled)

    def _clock(self, before: Words) -> tuple[Words, Words]:
        """Which flip-flops are enabled at a clock edge, and their values after it."""
        flops = self.flops
        enable = before[flops.enable] ^ flops.enable_flip
        reset = before[flops.reset] ^ flops.reset_flip
        reset &= enable | flops.over
        held = np.where(enable, enable & before[flops.data] | ~enable & before[flops.outputs], before[flops.outputs])
        return enable | reset, (held & ~reset) | (flops.value & reset)


@dataclass(frozen=True)
class Settled:
    """Result of a simulation: the value of every net at the end of every cycle, (cycles, nets, words)."""

    mapped: Mapped
    states: Words
    enabled: Words

    def port(self, name: str, *, signed: bool = False) -> Ints:
        """Values of a port, (cycles, streams) int64."""
        nets = self.mapped.ports[name][1]
        bits = [unpack(self.states[:, net]).astype(np.int64) for net in nets]
        total = sum((bit << place for place, bit in enumerate(bits)), np.zeros_like(bits[0]))
        return total - (bits[-1] << len(bits)) if signed else total

    def bits(self, name: str) -> npt.NDArray[np.bool_]:
        """Bits of a port, lowest first, (cycles, bits, streams)."""
        return np.stack([unpack(self.states[:, net]) for net in self.mapped.ports[name][1]], 1)

    def zero_delay(self, *, first: int = 1) -> Activity:
        """Changes of nets from the end of one cycle to the end of the next, for the cycles from ``first`` on."""
        changes = np.bitwise_count(self.states[first:] ^ self.states[first - 1 : -1]).sum((0, 2), dtype=np.int64)
        return self.activity(changes)

    def glitches(self, *, first: int = 1, lut: int = LUT_DELAY, carry: int = CARRY_DELAY) -> Activity:
        """All changes of nets including glitches, with transport delays, for the cycles from ``first`` on.

        Inputs and flip-flops change at time 0. A gate's output follows its inputs after the delay ``lut`` or ``carry``.
        """
        return self.activity(self.transitions(first=first, lut=lut, carry=carry).sum(1))

    def transitions(self, *, first: int = 1, lut: int = LUT_DELAY, carry: int = CARRY_DELAY) -> Ints:
        """Number of changes of every net in every cycle from ``first`` on, glitches included: (nets, cycles) int64.

        The changes are summed over all streams. ``lut`` and ``carry`` are the delays of gates.
        """
        delays = {"luts": lut, "carries": carry}
        before, after = (np.concatenate(list(part), 1) for part in (self.states[first - 1 : -1], self.states[first:]))
        values = before.copy()
        inputs = [net for way, nets in self.mapped.ports.values() if way == "input" for net in nets]
        sources = np.unique([*inputs, *self.mapped.flops.outputs])
        changes = np.zeros((len(values), len(self.states) - first), np.int64)
        gates = self.mapped._group(list(range(len(self.mapped._gates))))
        pending: dict[int, list[tuple[npt.NDArray[np.int64], Words]]] = {0: [(sources, after[sources])]}
        time = 0
        while pending:
            changed = np.zeros(len(values), bool)
            for nets, new in pending.pop(time, []):
                counts = np.bitwise_count(values[nets] ^ new).reshape(len(nets), changes.shape[1], -1)
                changes[nets] += counts.sum(2, dtype=np.int64)
                changed[nets[counts.any((1, 2))]] = True
                values[nets] = new
            for group in gates if changed.any() else ():
                moved = group.pick(changed[group.inputs].any(1))
                if len(moved.outputs):
                    later = pending.setdefault(time + delays[group.kind], [])
                    later.append((moved.outputs, moved.evaluate(values)))
            time += 1
        if not np.array_equal(values, after):
            raise FewbitError(
                "the netlist does not settle to what it computes: its flip-flops or loops are not modelled"
            )
        return changes

    def clocked(self, *, first: int = 1, where: npt.NDArray[np.bool_] | None = None) -> int:
        """Number of clock edges at enabled flip-flops, from cycle ``first`` on.

        If ``where`` (cycles, streams) is given, only the cycles and streams in which it is true are counted.
        """
        edges = unpack(self.enabled[first:])
        return int((edges if where is None else edges & where[first:, None]).sum())

    def activity(self, changes: Ints) -> Activity:
        """Sum ``changes``, a number for each net, by the kind of cell that drives the net."""
        totals = dict.fromkeys(("luts", "carries", "flip_flops"), 0)
        for net, kind in self.mapped.kinds.items():
            totals[kind] += int(changes[net])
        return Activity(**totals)


def pack(bits: Ints) -> Words:
    """Pack bits of streams into 64-bit words.  # (..., 64 * n) -> (..., n)"""
    return np.ascontiguousarray(np.packbits(np.asarray(bits, bool), axis=-1, bitorder="little")).view(np.uint64)


def unpack(words: Words) -> npt.NDArray[np.bool_]:
    """Unpack 64-bit words into bits, the inverse of :func:`pack`.  # (..., n) -> (..., 64 * n)"""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little").astype(bool)


def _spread(bits: npt.NDArray[np.bool_]) -> Words:
    """A word of all ones for every true bit, of all zeros for every false one."""
    return np.where(bits, ~np.uint64(0), np.uint64(0))


def _slot_tables(contents: int, injects: bool) -> tuple[int, int]:
    """Truth tables of the sum and the carry of half a CCU2C. Their inputs are A, B, C, D and the carry in."""
    total = carried = 0
    for row in range(32):
        lut, below, carry = contents >> (row & 15) & 1, contents >> (row & 3) & 1, row >> 4
        total |= (lut ^ (0 if injects else carry)) << row
        carried |= (carry if lut else 0 if injects else below) << row
    return total, carried


def _ice40_flop(name: str, letters: str, net: Callable[..., int]) -> dict[str, Any]:
    """An SB_DFF cell. Letters of its type: E for enable; SR or SS for synchronous, R or S for asynchronous (re)set."""
    rest = letters.removeprefix("E")
    if rest in ("R", "S"):
        raise FewbitError(f"activity is not modelled for asynchronous resets ({name})")
    return {
        "data": net("D"), "output": net("Q"), "enable": net("E") if letters.startswith("E") else _ONE,
        "enable_flip": False, "reset": net(rest[1]) if rest else _ZERO, "reset_flip": False, "value": rest == "SS",
        "over": not letters.startswith("E"),
    }  # fmt: skip


def _ecp5_flop(name: str, parameters: Mapping[str, Any], net: Callable[..., int]) -> dict[str, Any]:
    def parameter(key: str, default: str) -> str:
        return str(parameters.get(key, default)).strip()

    if parameter("SRMODE", "LSR_OVER_CE") == "ASYNC" and net("LSR") != _ZERO:
        raise FewbitError(f"activity is not modelled for asynchronous resets ({name})")
    enable = parameter("CEMUX", "1")
    fixed = {"1": _ONE, "0": _ZERO}
    return {
        "data": net("DI"), "output": net("Q"), "enable": fixed.get(enable, net("CE")), "enable_flip": enable == "INV",
        "reset": net("LSR"), "reset_flip": parameter("LSRMUX", "LSR") == "INV",
        "value": parameter("REGSET", "RESET") == "SET", "over": parameter("SRMODE", "LSR_OVER_CE") == "LSR_OVER_CE",
    }  # fmt: skip
