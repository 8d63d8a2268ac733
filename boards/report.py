"""The report of a build: resources, timing and link of one bitstream, as a record, as JSON and as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewbit.boards import protocol
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType

FORMAT = 1
REPORT_NAME = "report.json"
IMAGE_NAME = "weights.bin"
"""File beside the report with the weights that the host loads into the board, for builds that need it."""

_TITLES = {
    "logic_cells": "logic cells",
    "luts": "LUTs",
    "flip_flops": "flip-flops",
    "block_rams": "block RAMs",
    "dsps": "DSP blocks",
    "sprams": "SPRAMs",
}


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How much of a resource a design uses, and how much the device has.

    ``kind`` is ``logic_cells``, ``luts``, ``flip_flops``, ``block_rams``, ``dsps`` or ``sprams``.
    """

    kind: str
    used: int
    available: int

    @property
    def title(self) -> str:
        """Name of the resource for tables."""
        return _TITLES[self.kind]

    @property
    def percent(self) -> float:
        """Used share of the resource, in percent."""
        return 100 * self.used / self.available

    def __str__(self) -> str:
        return f"{self.used:,} of {self.available:,} {self.title} ({self.percent:.0f} %)"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Timing of a clock domain: the highest frequency by timing analysis, and the actual one, both in hertz."""

    domain: str
    fmax_hz: float
    clock_hz: float

    @property
    def met(self) -> bool:
        """Whether the timing is met."""
        return self.fmax_hz >= self.clock_hz


@dataclass(frozen=True, kw_only=True)
class Link:
    """Parameters of the serial link that a host needs; see :mod:`fewbit.boards.protocol`."""

    input: TensorType
    scores: TensorType
    has_index: bool
    baud: int
    window: int
    has_quality: bool = False
    image_bytes: int = 0

    @property
    def has_front(self) -> bool:
        """Whether requests begin with a front byte."""
        return self.has_quality or self.image_bytes > 0

    @property
    def frames_per_second(self) -> float:
        """Most frames per second that the line carries, limited by the longer of request and reply, 10 bits a byte."""
        request = protocol.request_bytes(self.input, self.has_front)
        longest = max(request, protocol.reply_bytes(self.scores, self.has_index))
        return self.baud / 10 / longest


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of a build.

    Parameters
    ----------
    board, target : str
    bitstream : str
        Name of the bitstream file in the folder of the report.
    clock_asked_hz : int
        Requested clock.
    clock_hz : float
        Actual clock: the highest that the PLL can make without exceeding the request.
    timing : tuple of Timing
        One for each clock domain.
    usage : tuple of Usage
        One for each kind of resource.
    seed, seeds_tried : int
        Seed of place-and-route that met the timing, and the number of seeds tried.
    tools : mapping of str to str
        Version of each tool, by name.
    link : Link
    cycles_per_frame : int or None
        Clock cycles from one frame to the next, as planned.
    plan : mapping or None
        Further figures of the plan, ready for JSON.
    """

    board: str
    target: str
    bitstream: str
    clock_asked_hz: int
    clock_hz: float
    timing: tuple[Timing, ...]
    usage: tuple[Usage, ...]
    seed: int
    seeds_tried: int
    tools: Mapping[str, str]
    link: Link
    cycles_per_frame: int | None
    plan: Mapping[str, Any] | None = None

    @property
    def frames_per_second(self) -> float | None:
        """Frames per second that the design computes, without the limit of the link; None without a plan."""
        return None if self.cycles_per_frame is None else self.clock_hz / self.cycles_per_frame

    def used(self, kind: str) -> int:
        """Number of resources of ``kind`` in use; 0 if the device has none."""
        return sum(usage.used for usage in self.usage if usage.kind == kind)

    def to_json(self) -> str:
        """Return the report as JSON."""
        tree = asdict(self)
        tree["link"] |= {"input": _tree(self.link.input), "scores": _tree(self.link.scores)}
        for row, usage in zip(tree["usage"], self.usage):
            row["percent"] = round(usage.percent, 1)
        extra = {"frames_per_second": self.frames_per_second, "link_frames_per_second": self.link.frames_per_second}
        return json.dumps({"format": FORMAT, **tree, **extra}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read a report from JSON. Raises FewbitError if ``text`` is not a report of this format version."""
        try:
            tree = json.loads(text)
            if tree["format"] != FORMAT:
                raise FewbitError(f"the build report has format {tree['format']}, not {FORMAT}: build again")
            link = tree["link"]
            types = {name: _tensor_type(link[name]) for name in ("input", "scores")}
            fields = {name: tree[name] for name in cls.__dataclass_fields__ if name != "plan"}
            fields["plan"] = tree.get("plan")
            fields["timing"] = tuple(Timing(**row) for row in tree["timing"])
            fields["usage"] = tuple(
                Usage(**{name: value for name, value in row.items() if name != "percent"}) for row in tree["usage"]
            )
            fields["link"] = Link(**{**link, **types})
            if not _plain_name(tree["bitstream"]):
                raise FewbitError(
                    f"the build report names the bitstream {tree['bitstream']!r}, which is not a plain file name: "
                    "build again"
                )
        except FewbitError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FewbitError(f"the build report is damaged ({error!r}): build again") from None
        return cls(**fields)

    @classmethod
    def load(cls, folder: Path) -> Report:
        """Read the report of the build in ``folder``. Raises FewbitError if there is none."""
        try:
            return cls.from_json((folder / REPORT_NAME).read_text(encoding="utf-8"))
        except OSError:
            raise FewbitError(f"{folder} holds no finished build (no {REPORT_NAME}): run fewbit build first") from None

    def __str__(self) -> str:
        lines = [f"{self.board} ({self.target}): {self.bitstream}", ""]
        lines += [f"  {use.title:12} {use.used:>7,} of {use.available:>7,} {use.percent:>6.1f} %" for use in self.usage]
        lines.append("")
        for row in self.timing:
            limit = f"up to {row.fmax_hz / 1e6:.1f} MHz by timing analysis"
            lines.append(f"  clock {row.domain}: {row.clock_hz / 1e6:.3f} MHz; {limit}")
        if self.clock_asked_hz != self.clock_hz:
            lines.append(f"  clock asked for: {self.clock_asked_hz / 1e6:g} MHz")
        if self.frames_per_second is not None:
            lines.append(f"  {self.cycles_per_frame:,} cycles a frame, {self.frames_per_second:,.0f} frames a second")
        link = self.link
        lines.append(f"  serial link: {link.baud:,} baud, up to {link.frames_per_second:,.0f} frames a second")
        if link.has_quality:
            lines.append("  quality: set by each request (fewbit run --quality)")
        if link.image_bytes:
            lines.append(f"  weights: {link.image_bytes:,} bytes, loaded at the start ({IMAGE_NAME})")
        lines.append(f"  place and route: seed {self.seed}, attempt {self.seeds_tried}")
        lines.append("  " + ", ".join(f"{name} {number}" for name, number in self.tools.items()))
        return "\n".join(lines) + "\n"


def _plain_name(name: object) -> bool:
    """Whether ``name`` is a file name without a path, on every operating system."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _tree(tensor: TensorType) -> dict[str, Any]:
    return {"dtype": str(tensor.dtype), "shape": list(tensor.shape)}


def _tensor_type(tree: dict[str, Any]) -> TensorType:
    return TensorType(DType.parse(tree["dtype"]), tuple(tree["shape"]))
