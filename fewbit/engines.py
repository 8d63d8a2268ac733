"""Runs a network on an engine: golden model, RTL, netlist, bitstream or board. All give the same integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.boards import catalogue, protocol
from fewbit.boards.host import BoardLink, find_port
from fewbit.boards.report import IMAGE_NAME, Link, Report
from fewbit.generator import MODULE, Design, design
from fewbit.golden import run as golden
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Network
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fabric.devices import target as device
from fewbit.hw.streams import from_stream, to_stream
from fewbit.sim.bitstream import unpack
from fewbit.sim.compile import CompiledDesign, compile_design, find_compiler
from fewbit.sim.netlist import netlist
from fewbit.sim.words import extract, pack_words

Progress = Callable[[int], object]
"""Called with the number of frames that are done."""

ENGINES = ("golden", "rtl", "netlist", "bitstream", "board")


@dataclass(frozen=True)
class Run:
    """Results of a network on an engine.

    Attributes
    ----------
    network : Network
    scores : int64 array (N, \\*network.scores.shape)
        Scores of each frame.
    classes : int64 array (N,) or None
        Predicted class of each frame; None if the network does not classify.
    cycles : int or None
        Clock cycles from the first input beat to the last score; None if the engine does not count them.
    """

    network: Network
    scores: Ints
    classes: Ints | None
    cycles: int | None = None

    @property
    def output(self) -> Ints:
        """The output tensor of the source model: float32 scores, or int64 classes if it ends in an arg-max."""
        last = self.classes if isinstance(self.network.layers[-1], ArgMax) else self.scores
        assert last is not None
        return golden.dequantize_output(self.network, last)

    def accuracy(self, labels: Ints) -> float:
        """Share of frames, 0 to 1, whose class equals that in ``labels`` (N,).

        Raises FewbitError if the network does not classify, or ``labels`` are not classes of all frames.
        """
        check_labels(self.network, labels, len(self.scores))
        return float(np.mean(self.classes == labels))


def check_quality(network: Network, quality: int | None) -> None:
    """Raises FewbitError if ``quality`` is negative, or set for a network without signed digits. None is allowed."""
    if quality is None:
        return
    if not network.digits:
        raise FewbitError(f"network {network.name!r} has no quality to set: it does not multiply by signed digits")
    if quality < 0:
        raise FewbitError(f"the quality must be 0 or more, not {quality}")


def check_labels(network: Network, labels: Ints, frames: int) -> None:
    """Raises FewbitError unless the network classifies and ``labels`` are classes, one for each of ``frames``."""
    if not _gives_classes(network):
        raise FewbitError(f"network {network.name!r} does not classify: its output is {network.output}")
    check_classes(labels, frames, network.scores.size)


def check_classes(labels: Ints, frames: int, classes: int) -> None:
    """Raises FewbitError unless ``labels`` has ``frames`` integers from 0 to ``classes - 1``, and at least one."""
    if labels.shape != (frames,) or labels.dtype.kind not in "iu":
        raise FewbitError(f"labels must be {frames} integers on one axis, not {labels.dtype} {labels.shape}")
    if not frames:
        raise FewbitError("the accuracy needs at least one frame")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise FewbitError(f"labels must be classes, 0 to {classes - 1}, got {labels.min()} to {labels.max()}")


def network_inputs(network: Network, values: Ints) -> Ints:
    """Convert ``values`` to the network's input integers (N, \\*shape). Floats are quantized as in the source model.

    Raises
    ------
    FewbitError
        If the shape, type or range does not match the network's input.
    """
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = golden.quantize_input(network, values)
    elif network.input_quantizer is not None:
        raise FewbitError(
            f"network {network.name!r} takes float32 inputs, not {values.dtype}; "
            "say what the integers stand for, such as --input uint8/255, or pass floats"
        )
    else:
        values = golden.source_frames(network, values)
    return golden.check_frames(network, values)


def run_golden(
    network: Network,
    frames: Ints,
    on_progress: Progress | None = None,
    batch: int = 1000,
    quality: int | None = None,
) -> Run:
    """Run input integers ``frames`` (N, \\*shape) through the golden model, ``batch`` frames at a time.

    ``quality`` is the number of signed digits that count in each multiplication; None is all.
    """
    check_quality(network, quality)
    parts = []
    for start in range(0, len(frames), batch):
        parts.append(golden.run(network, frames[start : start + batch], quality).scores)
        if on_progress:
            on_progress(min(len(frames), start + batch))
    scores = np.concatenate(parts) if parts else np.zeros((0, *network.scores.shape), np.int64)
    return Run(network, scores, _classes(network, scores))


def run_rtl(
    planned: Design,
    frames: Ints,
    on_progress: Progress | None = None,
    *,
    valid_pattern: str = "always",
    ready_pattern: str = "always",
    seed: int = 0,
    quality: int | None = None,
) -> Run:
    """Run ``frames`` through the compiled Verilog of a design. The classes are those of the hardware's arg-max.

    Parameters
    ----------
    planned : Design
    frames : int array (N, \\*shape)
        Input integers.
    valid_pattern, ready_pattern, seed
        Cycles in which beats are offered and taken; see :meth:`fewbit.sim.compile.CompiledDesign.run`.
    quality : int or None
        Number of signed digits that count in each multiplication; None is all.
    """
    check_quality(planned.network, quality)
    if len(frames) == 0:
        return run_golden(planned.network, frames)
    compiled = compile_design(planned.verilog, top=MODULE)
    return _stream(
        planned, compiled, frames, on_progress, valid_pattern, ready_pattern, seed, quality, load=planned.image()
    )


def run_netlist(planned: Design, frames: Ints, on_progress: Progress | None = None, quality: int | None = None) -> Run:
    """Run ``frames`` through the netlist of a design after synthesis, simulated with models of the vendor's cells.

    Raises
    ------
    FewbitError
        If the target is not an FPGA.
    """
    family = _check_fpga(planned.plan.target)
    if len(frames) == 0:
        return run_golden(planned.network, frames)
    mapped = netlist(planned.mapped_verilog, top=MODULE, family=family, dsp=planned.plan.cost.dsps > 0)
    compiled = compile_design(mapped, top=MODULE)
    return _stream(planned, compiled, frames, on_progress, quality=quality, load=planned.image(cells=True))


def run_bitstream(
    network: Network,
    frames: Ints,
    build_dir: Path,
    on_progress: Progress | None = None,
    quality: int | None = None,
) -> Run:
    """Run ``frames`` through a simulation of the bitstream in ``build_dir``, over its serial pins. iCE40 only.

    Raises
    ------
    FewbitError
        If there is no finished build, it is of another network or for another family, or the unpacker is not installed.
    """
    report, link = _build_of(network, build_dir, quality)
    if len(frames) == 0:
        return run_golden(network, frames)
    bitstream = build_dir / report.bitstream
    unpacked = unpack(bitstream, bitstream.with_suffix(".pcf"), target=report.target, clock_hz=report.clock_hz)
    requests = [protocol.encode_request(network.input, frame, link.has_front, quality) for frame in frames]
    length = protocol.reply_bytes(link.scores, link.has_index)
    replies = unpacked.exchange(
        requests,
        reply_bytes=length,
        window=link.window,
        baud=link.baud,
        cycles_per_request=4 * (report.cycles_per_frame or 0),
        on_progress=on_progress,
    )
    decoded = [_decoded(link, number, reply) for number, reply in enumerate(replies)]
    scores = np.stack([values for values, _ in decoded])
    classes = np.array([index for _, index in decoded]) if link.has_index else _classes(network, scores)
    return Run(network, scores, classes)


def _decoded(link: Link, number: int, reply: bytes) -> tuple[Ints, int | None]:
    """Decode the reply to frame ``number`` into scores and class. Errors name the frame."""
    try:
        return protocol.decode_reply(link.scores, link.has_index, reply)
    except FewbitError as error:
        raise FewbitError(f"frame {number}: {error}") from None


def _build_of(network: Network, build_dir: Path, quality: int | None) -> tuple[Report, Link]:
    """Read the report of the build in ``build_dir``; check that it is of ``network`` and can set ``quality``."""
    check_quality(network, quality)
    report = Report.load(build_dir)
    link = report.link
    if (link.input, link.scores, link.has_index) != (network.input, network.scores, network.classifies):
        raise FewbitError(
            f"{build_dir} is a build of another network: it takes {link.input} and gives {link.scores}, "
            f"{network.name!r} takes {network.input} and gives {network.scores}"
        )
    if quality is not None and not link.has_quality:
        raise FewbitError(f"{build_dir} is an old build that cannot set a quality: run fewbit build again")
    return report, link


def _image_of(link: Link, build_dir: Path) -> bytes:
    """Read the weights that the host loads into the board; empty if there are none."""
    if link.image_bytes == 0:
        return b""
    try:
        image = (build_dir / IMAGE_NAME).read_bytes()
    except OSError as error:
        raise FewbitError(f"cannot read {build_dir / IMAGE_NAME}: {error.strerror}") from None
    if len(image) != link.image_bytes:
        raise FewbitError(
            f"{build_dir / IMAGE_NAME} has {len(image):,} bytes, not {link.image_bytes:,}: run fewbit build again"
        )
    return image


def _stream(
    planned: Design,
    compiled: CompiledDesign,
    frames: Ints,
    on_progress: Progress | None = None,
    valid_pattern: str = "always",
    ready_pattern: str = "always",
    seed: int = 0,
    quality: int | None = None,
    *,
    load: NDArray[np.uint16],
) -> Run:
    """Load ``load`` into a compiled design, stream ``frames`` through it, and return its scores and classes."""
    network, plan = planned.network, planned.plan
    kind, lanes, scores = network.input.dtype, plan.folding.input_lanes, network.scores
    elements = to_stream(golden.check_frames(network, frames), network.input.shape)
    words = pack_words(kind.encode(elements).reshape(-1, lanes).astype(np.int64), kind.bits)
    slack = 1 if (valid_pattern, ready_pattern) == ("always", "always") else 40
    trace = compiled.run(
        words,
        len(frames) * scores.size,
        max_cycles=slack * (len(frames) * plan.cycles_per_frame + 2 * plan.latency + 1000),
        valid_pattern=valid_pattern,
        ready_pattern=ready_pattern,
        seed=seed,
        quality=network.digits if quality is None else min(quality, network.digits),
        load=load,
        on_progress=on_progress and (lambda outputs, _cycles: on_progress(outputs // scores.size)),
    )
    bits = scores.dtype.bits
    stored = extract(trace.outputs, 0, bits).astype(np.uint64)
    values = from_stream(scores.dtype.decode(stored).reshape(len(frames), scores.size), scores.shape)
    index = extract(trace.outputs, bits, max(1, (scores.size - 1).bit_length())).reshape(len(frames), -1)[:, -1]
    return Run(network, values, index if network.classifies else _classes(network, values), trace.cycles)


def run_board(
    network: Network,
    frames: Ints,
    *,
    board: str,
    port: str | None = None,
    build_dir: Path | None = None,
    quality: int | None = None,
    on_progress: Progress | None = None,
) -> Run:
    """Run ``frames`` on a programmed board over its serial port.

    Parameters
    ----------
    network : Network
    frames : int array (N, \\*shape)
        Input integers.
    board : str
        Name of the board; ignored if there is a ``build_dir``.
    port : str, optional
        Serial port; by default found by the USB ids of the board.
    build_dir : Path, optional
        Folder of the build that the board runs; by default the link has its default settings.
    quality : int or None
        Number of signed digits that count in each multiplication; None is all.
    on_progress : callable (frames), optional

    Raises
    ------
    FewbitError
        If the build is of another network, or the board is not found or does not answer.
    """
    options: dict[str, Any] = {}
    if build_dir is None:
        check_quality(network, quality)
        has_quality = network.digits > 0
        window = protocol.window(network.input, catalogue.get(board).buffer_frames, has_quality)
        options |= {"window": window, "has_quality": has_quality}
    else:
        report, link = _build_of(network, build_dir, quality)
        options |= {"baud": link.baud, "window": link.window, "has_quality": link.has_quality}
        options["image"] = _image_of(link, build_dir)
        options["frame_s"] = (report.cycles_per_frame or 0) / report.clock_hz
        board = report.board
    with BoardLink(port or find_port(board), network.input, network.scores, network.classifies, **options) as serial:
        scores, index = serial.run(frames, on_progress, quality=quality)
    return Run(network, scores, _classes(network, scores) if index is None else index)


def check(
    network: Network, engine: str, *, target: str = "up5k", build_dir: Path | None = None, quality: int | None = None
) -> None:
    """Check options before a run. Raises FewbitError if ``engine`` cannot run ``network`` with these options."""
    if engine not in ENGINES:
        raise FewbitError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    check_quality(network, quality)
    if engine == "netlist":
        _check_fpga(device(target))
    if engine == "bitstream" and build_dir is None:
        raise FewbitError("the engine bitstream needs the folder of a finished build: --build DIR")
    if engine in ("rtl", "netlist", "bitstream"):
        find_compiler()
    if engine in ("bitstream", "board") and build_dir is not None:
        _image_of(_build_of(network, build_dir, quality)[1], build_dir)


def _check_fpga(target: Target) -> str:
    if target.kind.synthesis is None:
        raise FewbitError(f"there is no netlist for {target.title}, only for up5k, hx8k, ecp5-25k and ecp5-85k")
    return target.family


def run(
    network: Network,
    inputs: Ints,
    engine: str = "golden",
    *,
    target: str = "up5k",
    board: str = "icebreaker",
    port: str | None = None,
    build_dir: Path | None = None,
    quality: int | None = None,
    on_progress: Progress | None = None,
) -> Run:
    """Run frames through ``network`` on an engine.

    Parameters
    ----------
    network : Network
    inputs : array (N, ...)
        Frames: floats as the source model takes them, or the network's input integers.
    engine : str
        One of :data:`ENGINES`.
    target : str
        Device, for ``rtl`` and ``netlist``.
    board, port : str
        Board and serial port, for ``board``. By default the port is found by the board's USB ids.
    build_dir : Path, optional
        Folder of a finished build, for ``bitstream`` and ``board``.
    quality : int or None
        Number of signed digits that count in each multiplication; None is all.
    on_progress : callable (frames), optional

    Raises
    ------
    FewbitError
        If the engine is unknown or cannot run, or the inputs do not match the network.
    """
    check(network, engine, target=target, build_dir=build_dir, quality=quality)
    frames = network_inputs(network, inputs)
    if engine == "golden":
        return run_golden(network, frames, on_progress, quality=quality)
    if engine == "rtl":
        return run_rtl(design(network, target), frames, on_progress, quality=quality)
    if engine == "netlist":
        return run_netlist(design(network, target), frames, on_progress, quality=quality)
    if engine == "bitstream":
        assert build_dir is not None
        return run_bitstream(network, frames, build_dir, on_progress, quality)
    return run_board(
        network, frames, board=board, port=port, build_dir=build_dir, quality=quality, on_progress=on_progress
    )


def differing_frames(first: Run, second: Run) -> Ints:
    """Indices of the frames on which two runs differ, in any score or in the class."""
    differ = (first.scores != second.scores).reshape(len(first.scores), -1).any(1)
    if first.classes is not None and second.classes is not None:
        differ |= first.classes != second.classes
    return np.flatnonzero(differ)


def _classes(network: Network, scores: Ints) -> Ints | None:
    return golden.classify(network, scores) if _gives_classes(network) else None


def _gives_classes(network: Network) -> bool:
    """Whether the network classifies: it has several scores on one axis, of one output tensor, or ends in an
    arg-max."""
    scores = network.scores
    several = scores.size > 1 or isinstance(network.layers[-1], ArgMax)
    return several and len(scores.shape) == 1 and not network.output_sizes
