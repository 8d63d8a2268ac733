# amaranth: UnusedElaboratable=no
"""Builds a bitstream: Amaranth writes netlist and constraints; Yosys, nextpnr and the packer run one after another."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from fewbit.boards import catalogue, protocol, tools
from fewbit.boards.catalogue import Board
from fewbit.boards.pll import ClockReset, settings
from fewbit.boards.report import IMAGE_NAME, REPORT_NAME, Link, Report, Timing, Usage
from fewbit.boards.shell import BoardTop, Shell, check_pause
from fewbit.boards.uart import divisor
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType
from fewbit.golden.write import check_folder
from fewbit.hw import child
from fewbit.hw.child import temporary_folder
from fewbit.hw.fabric import families
from fewbit.hw.fabric.devices import target
from fewbit.hw.fabric.families import FAMILIES
from fewbit.hw.fabric.family import AFTER_READ

Progress = Callable[[str], object]

_TOP = "top"
_REPORTED = {
    name: kind
    for family in FAMILIES.values()
    if family.tools is not None
    for name, kind in family.tools.reported.items()
}
_OUTPUTS = {"--asc", "--textcfg", "--report"}
_ROUTER2_STUCK = 1_000
_ITERATION = re.compile(r"Info:\s+iter=(\d+)")
_UTILIZATION = re.compile(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%")


def build(
    board: Board | str,
    design: Any,
    *,
    input: TensorType,
    scores: TensorType,
    has_index: bool,
    out_dir: str | Path,
    clock_hz: int | None = None,
    baud: int = protocol.BAUD,
    buffer_frames: int = protocol.BUFFER_FRAMES,
    seed: int = 1,
    seeds: int = 3,
    yosys: tools.Yosys = "yowasp",
    dsp: bool = False,
    cycles_per_frame: int | None = None,
    plan: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Build the bitstream of ``design`` for ``board``.

    ``out_dir`` receives the bitstream ``<board>.bin`` or ``.bit``, ``report.json``, ``report.txt``, ``build.log``, the
    synthesized ``netlist.json`` and the pin constraints; also ``weights.bin`` if the host has to load weights. The
    files are made in a temporary folder and moved at the end, so a failed build replaces only ``build.log``.

    Parameters
    ----------
    board : Board or str
    design, input, scores, has_index, baud, buffer_frames
        See :class:`fewbit.boards.shell.Shell`.
    out_dir : path
    clock_hz : int or None
        Requested clock; None for the board's default.
    seed : int
        First seed of place-and-route. If timing is not met, the next seeds are tried, up to ``seeds`` in all.
    yosys : ``"yowasp"``, ``"native"`` or ``"pyosys"``
        Which Yosys runs the synthesis. Their netlists differ.
    dsp : bool
        Whether synthesis may use the device's DSP blocks.
    cycles_per_frame : int or None
        Planned cycles per frame, for the report.
    plan : mapping or None
        Further figures of the plan, for the report.
    on_progress : callable (stage)
        Called with a short description when a stage begins.

    Raises
    ------
    Misfit
        If the design needs more of a resource than the device has.
    TimingMiss
        If no seed meets the timing.
    FewbitError
        If an option does not suit the board, or a tool is missing or fails.
    """
    board = catalogue.get(board) if isinstance(board, str) else board
    asked_hz = board.clock_hz if clock_hz is None else clock_hz
    if seeds < 1:
        raise FewbitError(f"at least 1 seed must be tried, not {seeds}")
    tell: Progress = on_progress or _silent
    top = _in_shell(
        board, design, asked_hz, input=input, scores=scores, has_index=has_index, baud=baud, buffer_frames=buffer_frames
    )
    clock, shell = top.clock, top.shell
    yosys_command = tools.yosys_command(yosys, f"{_TOP}.ys")
    programs = families.tools(board.family)
    nextpnr, pack = tools.require(programs.place_and_route), tools.require(programs.pack)

    out = Path(out_dir)
    with _Workshop(out) as work:
        run = _Run(board, work, tell)
        tell("elaboration")
        _, nextpnr_options, pack_options = _write_sources(
            board, top, work.folder, dsp and target(board.target).dsp_bits > 0
        )
        run("synthesis", yosys_command)
        met = run.place_and_route([nextpnr, *nextpnr_options], clock.hz, range(seed, seed + seeds))
        run("packing", [pack, *pack_options])
        report = Report(
            board=board.name,
            target=board.target,
            bitstream=board.name + board.suffix,
            clock_asked_hz=asked_hz,
            clock_hz=float(clock.hz),
            timing=run.timing(clock.hz),
            usage=run.usage(),
            seed=met,
            seeds_tried=met - seed + 1,
            tools=dict([tools.yosys_version(yosys), *map(_version_of, ("amaranth", programs.place_and_route))]),
            link=Link(
                input=input,
                scores=scores,
                has_index=has_index,
                baud=baud,
                window=shell.window,
                has_quality=shell.has_quality,
                image_bytes=shell.image_bytes,
            ),
            cycles_per_frame=cycles_per_frame,
            plan=plan,
        )
        products = {
            f"{_TOP}{board.suffix}": report.bitstream,
            f"{_TOP}.json": "netlist.json",
            f"{_TOP}{programs.pins}": board.name + programs.pins,
        }
        if shell.image_bytes:
            image = b"".join(word.to_bytes(2, "little") for word in design.image)
            (work.folder / IMAGE_NAME).write_bytes(image)
            products[IMAGE_NAME] = IMAGE_NAME
        work.deliver(products, report)
    tell("done")
    return report


def pack(
    board: Board | str,
    design: Any,
    *,
    input: TensorType,
    scores: TensorType,
    has_index: bool,
    buffer_frames: int = protocol.BUFFER_FRAMES,
    dsp: bool = False,
    on_progress: Progress | None = None,
) -> tuple[Usage, ...]:
    """Return the resources that ``design`` with its shell takes on ``board``, without place and route.

    The design is synthesized and packed by the same commands as in :func:`build`, and need not fit the device.

    Parameters
    ----------
    board : Board or str
    design, input, scores, has_index, buffer_frames
        See :class:`fewbit.boards.shell.Shell`.
    dsp : bool
        Whether synthesis may use the device's DSP blocks.
    on_progress : callable (stage)
        Called with a short description when a stage begins.

    Raises
    ------
    FewbitError
        If an option does not suit the board, or a tool is missing or fails.
    """
    board = catalogue.get(board) if isinstance(board, str) else board
    top = _in_shell(
        board, design, board.clock_hz, input=input, scores=scores, has_index=has_index, buffer_frames=buffer_frames
    )
    nextpnr = tools.require(families.tools(board.family).place_and_route)
    with temporary_folder() as place, _Workshop(place / "packed") as work:
        run = _Run(board, work, on_progress or _silent)
        _, options, _ = _write_sources(board, top, work.folder, dsp)
        run("synthesis", tools.yosys_command("yowasp", f"{_TOP}.ys"))
        inputs = [option for before, option in zip(["", *options], options) if not {before, option} & _OUTPUTS]
        run("packing", [nextpnr, *inputs, "--pack-only"])
        return run.usage()


def _silent(stage: str) -> None:
    pass


def _in_shell(board: Board, design: Any, clock_hz: int, **link: Any) -> BoardTop:
    """``design`` in a shell on ``board``, at the highest clock that the board can make up to ``clock_hz``."""
    clock = ClockReset(board, clock_hz)
    return BoardTop(board, Shell(design, clock_hz=clock.hz, **link), clock)


def _version_of(package: str) -> tuple[str, str]:
    return package, tools.package_version(package)


def _write_sources(board: Board, top: BoardTop, folder: Path, dsp: bool) -> list[list[str]]:
    """Write netlist, script and constraints to ``folder``; return the options of Yosys, nextpnr and the packer."""
    flow = families.synthesis(board.family)
    plan = board.make_platform().build(
        top,
        name=_TOP,
        do_build=False,
        emit_src=False,  # keeps paths of this machine out of the bitstream
        script_after_read="\n".join(AFTER_READ),
        synth_opts=flow.options(dsp=dsp),
        script_after_synth="\n".join([*flow.afterwards(dsp=dsp), "tee -q -o stat.json stat -json"]),
        nextpnr_opts="--timing-allow-fail --report report.json",
    )
    plan.extract(folder)
    for file, text in flow.support().items():
        (folder / file).write_text(text, encoding="utf-8")
    commands = json.loads(plan.files[f"build_{_TOP}.json"])["commands"]
    # _Run reads nextpnr's progress messages, so nextpnr must not be quiet.
    return [[option for option in command[1:] if option != "--quiet"] for command in commands]


def check(board: Board, out_dir: str | Path, *, clock_hz: int | None, baud: int, yosys: tools.Yosys) -> None:
    """Check the options of a build before the design is made.

    Raises FewbitError if the board cannot make the clock or the baud rate, a tool is missing, or ``out_dir`` is not
    writable.
    """
    check_folder(out_dir)
    check_pause(protocol.PAUSE_S, baud)
    divisor(ClockReset(board, board.clock_hz if clock_hz is None else clock_hz).hz, baud)
    tools.yosys_command(yosys, f"{_TOP}.ys")
    programs = families.tools(board.family)
    for tool in (programs.place_and_route, programs.pack):
        tools.require(tool)


class _Workshop:
    """A temporary folder in which a build runs; its products are then moved to ``out``."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def __enter__(self) -> _Workshop:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            if self.out.exists() and not self.out.is_dir():
                raise FewbitError(f"cannot build into {self.out}: it is a file")
            # `out` may be a mount point, and os.replace works only within one file system.
            place = self.out if self.out.exists() else self.out.parent
            self.folder = Path(tempfile.mkdtemp(prefix=".fewbit-", dir=place))
        except OSError as error:
            raise FewbitError(f"cannot build into {self.out}: {error.strerror}") from None
        self.log = self.folder / "build.log"
        self.log.touch()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if isinstance(error, FewbitError) and not child.ending():
                self._complete_log()
                self._move({"build.log": "build.log"})
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def deliver(self, products: dict[str, str], report: Report) -> None:
        """Move ``products`` (name in the temporary folder: name in ``out``) to ``out``.

        The old report is removed first and the new one is moved last, so a report in ``out`` always matches the files.
        """
        self._complete_log()
        (self.folder / "report.txt").write_text(str(report), encoding="utf-8")
        (self.folder / REPORT_NAME).write_text(report.to_json(), encoding="utf-8")
        with child.undisturbed():
            (self.out / REPORT_NAME).unlink(missing_ok=True)
            self._move({**products, "build.log": "build.log", "report.txt": "report.txt", REPORT_NAME: REPORT_NAME})

    def _complete_log(self) -> None:
        with self.log.open("ab") as log:
            if (self.folder / "yosys.log").exists():
                log.write((self.folder / "yosys.log").read_bytes())

    def _move(self, names: dict[str, str]) -> None:
        try:
            self.out.mkdir(exist_ok=True)
            for here, there in names.items():
                os.replace(self.folder / here, self.out / there)
        except OSError as error:
            raise FewbitError(f"cannot write to {self.out}: {error.strerror}") from None


class Misfit(FewbitError):
    """The design does not fit its device; ``usage`` is the resource that it exceeds by the largest share."""

    def __init__(self, message: str, usage: Usage) -> None:
        super().__init__(message)
        self.usage = usage


class TimingMiss(FewbitError):
    """The design misses its timing: it reaches ``reached_hz``, below the required ``asked_hz``."""

    def __init__(self, message: str, reached_hz: float, asked_hz: float) -> None:
        super().__init__(message)
        self.reached_hz, self.asked_hz = reached_hz, asked_hz


class _StuckError(Exception):
    """Router2 does not converge."""


class _Run:
    """Runs the tools of one build in a :class:`_Workshop` and reads their reports."""

    def __init__(self, board: Board, work: _Workshop, tell: Progress) -> None:
        self.board, self.work, self.tell = board, work, tell

    def __call__(self, stage: str, command: list[str]) -> None:
        self.tell(stage)
        ended = self._ended(stage, command)
        if ended.status:
            raise FewbitError(f"{self._why(stage, ended)}; see {self.work.out / 'build.log'}")

    def _ended(self, stage: str, command: list[str]) -> child.Ended:
        def watch(line: str) -> None:
            if (iteration := _ITERATION.match(line)) and int(iteration[1]) > _ROUTER2_STUCK:
                raise _StuckError
            if line.startswith("Preparing to run"):
                self.tell(f"{stage} (first run: preparing the tool, up to 2 minutes)")

        return tools.run(command, folder=self.work.folder, log=self.work.log, on_line=watch)

    def place_and_route(self, command: list[str], clock_hz: Fraction, seeds: range) -> int:
        """Place and route until a seed meets the timing; return that seed."""
        best_hz = 0.0
        for seed in seeds:
            stage = f"place and route, seed {seed}"
            self.tell(stage)
            seeded = [*command, "--seed", str(seed), "--router"]
            try:
                # router2 first: on iCE40, router1 takes minutes instead of seconds for designs made mostly of LUTs.
                ended = self._ended(stage, [*seeded, "router2"])
            except _StuckError:
                # Sometimes router2 does not converge because of one or two wires, which router1 routes at once.
                self.tell(f"{stage}, other router")
                ended = self._ended(stage, [*seeded, "router1"])
            if ended.status:
                self._refuse_misfit()
                raise FewbitError(f"{self._why('place and route', ended)}; see {self.work.out / 'build.log'}")
            timing = self.timing(clock_hz)
            if all(row.met for row in timing):
                return seed
            best_hz = max(best_hz, min(row.fmax_hz for row in timing))
        tried = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
        raise TimingMiss(
            f"the design reaches {best_hz / 1e6:.2f} MHz of the {float(clock_hz) / 1e6:g} MHz asked for "
            f"on {self.board.name} ({tried} tried): {self._slower(best_hz)}",
            best_hz,
            float(clock_hz),
        )

    def _slower(self, best_hz: float) -> str:
        """Advice for a build that missed its timing: a clock 0.1 MHz below the best one that was reached."""
        advised = Fraction(int(best_hz / 1e5 - 1), 10)
        try:
            settings(self.board, advised * 1_000_000)
        except FewbitError:
            if self.board.oscillator_hz > best_hz:
                return "pipeline or fold it more, or build for a faster board"
            advised = Fraction(self.board.oscillator_hz, 1_000_000)
        return f"ask for --clock {float(advised):g} or lower, or pipeline or fold it more"

    def _refuse_misfit(self) -> None:
        over = [usage for usage in self._logged_usage() if usage.used > usage.available]
        if not over:
            return
        worst = max(over, key=lambda usage: usage.percent)
        raise Misfit(
            f"the design does not fit {self.board.name}: it needs {worst}; fold it more, or build for a larger board",
            worst,
        )

    def _logged_usage(self) -> list[Usage]:
        log = self.work.folder / f"{_TOP}.tim"
        rows = _UTILIZATION.findall(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []
        return [
            Usage(kind=_REPORTED[cell], used=int(used), available=int(available))
            for cell, used, available in rows
            if cell in _REPORTED and int(available)
        ]

    def _why(self, stage: str, ended: child.Ended) -> str:
        """Why a tool failed: its first ``ERROR:`` line or, if there is none, its exit status."""
        for name in (f"{_TOP}.tim", "yosys.log", "build.log"):
            path = self.work.folder / name
            if path.exists():
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                    if line.startswith("ERROR: "):
                        return f"{stage} failed: {line.removeprefix('ERROR: ').rstrip('.')}"
        return child.failure(stage, ended, None if ended.output.strip() else self.work.folder / "yosys.log")

    def _read(self, name: str) -> Any:
        return json.loads((self.work.folder / name).read_text(encoding="utf-8"))

    def timing(self, clock_hz: Fraction) -> tuple[Timing, ...]:
        clocks = self._read("report.json")["fmax"]
        for name, row in clocks.items():
            # nextpnr rounds the constraint to whole picoseconds; a larger difference means an unconstrained clock.
            if abs(row["constraint"] * 1e6 / clock_hz - 1) > 1e-3:
                raise RuntimeError(f"clock {name} was constrained to {row['constraint']} MHz, not {clock_hz} Hz")
        return tuple(
            Timing(domain="sync" if len(clocks) == 1 else name, fmax_hz=row["achieved"] * 1e6, clock_hz=float(clock_hz))
            for name, row in clocks.items()
        )

    def usage(self) -> tuple[Usage, ...]:
        usage_by_kind = {use.kind: use for use in self._logged_usage()}
        cells = self._read("stat.json")["design"]["num_cells_by_type"]
        capacity = usage_by_kind["logic_cells"].available
        for kind, prefixes in {"luts": ("SB_LUT4", "LUT4"), "flip_flops": ("SB_DFF", "TRELLIS_FF")}.items():
            used = sum(count for name, count in cells.items() if name.startswith(prefixes))
            usage_by_kind.setdefault(kind, Usage(kind=kind, used=used, available=capacity))
        order = ("logic_cells", "luts", "flip_flops", "block_rams", "dsps", "sprams")
        return tuple(usage_by_kind[kind] for kind in order if kind in usage_by_kind)
