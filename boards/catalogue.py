"""The supported boards. To add a board, add an entry to :data:`BOARDS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.devices import target


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board: its device, its clock, its serial port, and how a bitstream gets onto it.

    Parameters
    ----------
    name : str
        Name on the command line.
    title : str
        The manufacturer's name for it.
    target : str
        Name of the device among the targets of :mod:`fewbit.hw.fabric.devices`.
    platform : str
        ``module:class`` of its amaranth-boards platform, imported when first needed.
    oscillator : str
        Name of the clock resource, of ``oscillator_hz`` hertz.
    pll : ``"ice40-pad"``, ``"ice40-core"`` or ``"ecp5"``
        Kind of PLL, and on iCE40 whether the oscillator's pin is a PLL pad.
    clock_hz : int
        Default clock of a design.
    suffix : str
        Suffix of the bitstream file, such as ``.bin``.
    loader : tuple of str
        openFPGALoader's options for the board, without those that choose between flash and SRAM.
    iceprog : bool
        Whether iceprog can also write the board's flash.
    usb_ids : tuple of (vendor, product)
        USB ids of the bridge that carries the serial port.
    usb_interface : int
        Number of the bridge's interface that is the serial port, counted from 0.
    aliases : tuple of str
        Other names on the command line.
    buffer_frames : int
        Number of frames in the shell's receive buffer. 0 is no buffer, which saves block RAM.
    uart : tuple of (name, number)
        Amaranth resource of the UART.
    leds : int
        Number of ``led`` resources that the shell may drive.
    hold_high : tuple of (name, number, subsignal)
        Pins that the shell drives high, so that other chips on the board stay in their normal state.
    """

    name: str
    title: str
    target: str
    platform: str
    oscillator: str
    oscillator_hz: int
    pll: Literal["ice40-pad", "ice40-core", "ecp5"]
    clock_hz: int
    suffix: str
    loader: tuple[str, ...]
    iceprog: bool
    usb_ids: tuple[tuple[int, int], ...]
    usb_interface: int
    aliases: tuple[str, ...] = ()
    buffer_frames: int = 2
    uart: tuple[str, int] = ("uart", 0)
    leds: int = 2
    hold_high: tuple[tuple[str, int, str], ...] = ()

    @property
    def family(self) -> str:
        """Name of the device's family, ``"ice40"`` or ``"ecp5"``."""
        return target(self.target).family

    def make_platform(self) -> Any:
        """Return a new Amaranth platform. Each build needs its own.

        Raises FewbitError if amaranth-boards is not installed.
        """
        module, name = self.platform.split(":")
        try:
            factory: Callable[[], Any] = getattr(import_module(module), name)
        except ImportError as error:
            raise FewbitError(
                f"board {self.name} needs the Python package amaranth-boards ({error}): pip install amaranth-boards"
            ) from None
        return factory()


def _ulx3s(size: str, clock_hz: int) -> Board:
    return Board(
        name=f"ulx3s-{size}f",
        title=f"Radiona ULX3S with LFE5U-{size}F",
        target={"25": "ecp5-25k", "85": "ecp5-85k"}[size],
        platform=f"amaranth_boards.ulx3s:ULX3S_{size}F_Platform",
        oscillator="clk25",
        oscillator_hz=25_000_000,
        pll="ecp5",
        clock_hz=clock_hz,
        suffix=".bit",
        loader=("-b", "ulx3s"),
        iceprog=False,
        usb_ids=((0x0403, 0x6015),),
        usb_interface=0,
        # The ESP32 reads its GPIO0 as a boot strap; low, it stays in its boot loader.
        hold_high=(("esp32", 0, "gpio0"),),
    )


BOARDS: tuple[Board, ...] = (
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker",
        target="up5k",
        platform="amaranth_boards.icebreaker:ICEBreakerPlatform",
        oscillator="clk12",
        oscillator_hz=12_000_000,
        pll="ice40-pad",
        clock_hz=24_000_000,
        suffix=".bin",
        loader=("-b", "ice40_generic"),
        iceprog=True,
        usb_ids=((0x0403, 0x6010),),
        usb_interface=1,
        buffer_frames=0,
    ),
    Board(
        name="ice40-hx8k-b-evn",
        title="Lattice iCE40-HX8K Breakout Board",
        target="hx8k",
        platform="amaranth_boards.ice40_hx8k_b_evn:ICE40HX8KBEVNPlatform",
        oscillator="clk12",
        oscillator_hz=12_000_000,
        pll="ice40-core",
        clock_hz=48_000_000,
        suffix=".bin",
        loader=("-b", "ice40_generic"),
        iceprog=True,
        usb_ids=((0x0403, 0x6010),),
        usb_interface=1,
        buffer_frames=0,
        aliases=("hx8k",),
    ),
    _ulx3s("25", 50_000_000),
    _ulx3s("85", 50_000_000),
)
"""All boards, in the order in which they are listed."""


def get(name: str) -> Board:
    """Return the board with this name or alias, in upper or lower case.

    >>> get("hx8k").name
    'ice40-hx8k-b-evn'

    Raises
    ------
    FewbitError
        If no board has that name.
    """
    for board in BOARDS:
        if name.lower() in (board.name, *board.aliases):
            return board
    raise FewbitError(f"unknown board {name!r}; the boards are {', '.join(board.name for board in BOARDS)}")
