# amaranth: UnusedElaboratable=no
"""Clock and reset of a board: the oscillator or the device's PLL, and a synchronous power-on reset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from fewbit.boards.catalogue import Board
from fewbit.golden.errors import FewbitError

_MHZ = 1_000_000
_RESET_S = Fraction(15, _MHZ)


@dataclass(frozen=True, kw_only=True)
class Ice40Pll:
    """Settings of an iCE40 SB_PLL40 with simple feedback: ``hz = source * (divf + 1) / (divr + 1) / 2**divq``."""

    hz: Fraction
    vco_hz: Fraction
    divr: int
    divf: int
    divq: int
    filter_range: int


@dataclass(frozen=True, kw_only=True)
class Ecp5Pll:
    """Settings of an ECP5 EHXPLLL with feedback from CLKOP: ``hz = source * clkfb_div / clki_div``."""

    hz: Fraction
    vco_hz: Fraction
    clki_div: int
    clkfb_div: int
    clkop_div: int


def ice40_pll(source_hz: int, asked_hz: int | Fraction) -> Ice40Pll:
    """iCE40 PLL settings for the highest frequency that does not exceed ``asked_hz``.

    Limits: Lattice FPGA-DS-02029 (iCE40 LP/HX) and FPGA-DS-02008 (UltraPlus), "sysCLOCK PLL timing": phase detector
    10 to 133 MHz, VCO 533 to 1066 MHz, output 16 to 275 MHz. If several settings give the same frequency, the one that
    icepll would choose is taken: smallest DIVR, then smallest DIVF.

    >>> ice40_pll(12_000_000, 48_000_000).divf
    63

    Raises
    ------
    FewbitError
        If no setting gives a frequency from 16 MHz to ``asked_hz``, or ``asked_hz`` is above 275 MHz.
    """
    best: Ice40Pll | None = None
    if asked_hz <= 275 * _MHZ:
        for divr in range(16):
            detector = Fraction(source_hz, divr + 1)
            if not 10 * _MHZ <= detector <= 133 * _MHZ:
                continue
            for divf in range(128):
                vco = detector * (divf + 1)
                if not 533 * _MHZ <= vco <= 1066 * _MHZ:
                    continue
                for divq in range(1, 7):
                    hz = vco / (1 << divq)
                    if 16 * _MHZ <= hz <= asked_hz and (best is None or hz > best.hz):
                        best = Ice40Pll(
                            hz=hz, vco_hz=vco, divr=divr, divf=divf, divq=divq, filter_range=_filter_range(detector)
                        )
    return best or _refuse(asked_hz, source_hz, 16, 275)


def _filter_range(detector_hz: Fraction) -> int:
    limits = (17, 26, 44, 66, 101)
    return 1 + sum(detector_hz >= limit * _MHZ for limit in limits)


def ecp5_pll(source_hz: int, asked_hz: int | Fraction) -> Ecp5Pll:
    """ECP5 PLL settings for the highest frequency that does not exceed ``asked_hz``.

    Limits: Lattice FPGA-DS-02012 (ECP5), "sysCLOCK PLL timing": phase detector 3.125 to 400 MHz (10 to 400 MHz where
    jitter matters), VCO 400 to 800 MHz, output up to 400 MHz; the lower limit of 10 MHz is ecppll's. If several
    settings give the same frequency, the one that ecppll would choose is taken: VCO nearest to 600 MHz, then the
    smallest divisor.

    >>> ecp5_pll(25_000_000, 50_000_000).clkop_div
    12

    Raises
    ------
    FewbitError
        If no setting gives a frequency from 10 MHz to ``asked_hz``, or ``asked_hz`` is above 400 MHz.
    """
    best: Ecp5Pll | None = None
    if asked_hz <= 400 * _MHZ:
        for clki_div in range(1, 129):
            detector = Fraction(source_hz, clki_div)
            if not 3_125_000 <= detector <= 400 * _MHZ:
                continue
            # For this divisor, the best feedback divider gives the highest multiple that does not exceed asked_hz.
            clkfb_div = min(80, int(asked_hz / detector))
            hz = detector * clkfb_div
            if hz < 10 * _MHZ:
                continue
            for clkop_div in range(1, 129):
                vco = hz * clkop_div
                if not 400 * _MHZ <= vco <= 800 * _MHZ:
                    continue
                if best is None or (hz, -abs(vco - 600 * _MHZ)) > (best.hz, -abs(best.vco_hz - 600 * _MHZ)):
                    best = Ecp5Pll(hz=hz, vco_hz=vco, clki_div=clki_div, clkfb_div=clkfb_div, clkop_div=clkop_div)
    return best or _refuse(asked_hz, source_hz, 10, 400)


def _refuse(asked_hz: int | Fraction, source_hz: int, low: int, high: int) -> Any:
    raise FewbitError(
        f"the PLL cannot make {float(asked_hz) / 1e6:g} MHz: ask for {low} to {high} MHz, "
        f"or for the oscillator's {source_hz / 1e6:g} MHz"
    )


_PLLS: dict[str, Callable[[int, int | Fraction], Ice40Pll | Ecp5Pll]] = {
    "ice40-pad": ice40_pll,
    "ice40-core": ice40_pll,
    "ecp5": ecp5_pll,
}


def settings(board: Board, asked_hz: int | Fraction) -> Ice40Pll | Ecp5Pll | None:
    """PLL settings for ``asked_hz`` on ``board``, or None if the oscillator itself has that frequency.

    Raises FewbitError if the PLL cannot make it.
    """
    if asked_hz == board.oscillator_hz:
        return None
    return _PLLS[board.pll](board.oscillator_hz, asked_hz)


def clock_hz(board: Board, asked_hz: int | Fraction) -> Fraction:
    """The clock that ``board`` makes: the highest one that does not exceed ``asked_hz``. Raises as :func:`settings`."""
    chosen = settings(board, asked_hz)
    return chosen.hz if chosen else Fraction(board.oscillator_hz)


class ClockReset(Elaboratable):
    """Clock ``clk`` and synchronous power-on reset ``rst`` of a board, to be connected to a clock domain.

    The reset ends 15 µs after the PLL has locked: iCE40 block RAMs read as zeros for about 3 µs after configuration,
    and some oscillators start late.

    Parameters
    ----------
    board : Board
    asked_hz : int
        Requested clock. The attribute ``hz`` (Fraction) is the actual one: the highest that the PLL can make without
        exceeding the request.

    Raises
    ------
    FewbitError
        If the PLL cannot make the requested clock.
    """

    def __init__(self, board: Board, asked_hz: int) -> None:
        self.board, self.asked_hz = board, asked_hz
        self.pll = settings(board, asked_hz)
        self.hz = clock_hz(board, asked_hz)
        # Without `keep`, synthesis renames the clock and its timing constraint is lost.
        self.clk = Signal(name="board_clock", attrs={"keep": 1})
        self.rst = Signal(init=1)

    def elaborate(self, platform: Any) -> Module:
        # `clk` is the oscillator or the PLL's output. `por` is the power-on domain: its timer stays at zero until the
        # PLL has locked, and releases `rst` when it ends.
        m = Module()
        clock, locked = self.clk, Signal(init=1)
        source = platform.request(self.board.oscillator, 0, dir="-")
        if self.board.pll == "ice40-pad" and self.pll is not None:
            m.submodules.pll = self._ice40("SB_PLL40_PAD", ("io", "PACKAGEPIN", source.io), clock, locked)
        else:
            m.submodules.buffer = buffer = io.Buffer("i", source)
            if self.pll is None:
                m.d.comb += clock.eq(buffer.i)
            elif isinstance(self.pll, Ecp5Pll):
                m.submodules.pll = self._ecp5(buffer.i, clock, locked)
            else:
                m.submodules.pll = self._ice40("SB_PLL40_CORE", ("i", "REFERENCECLK", buffer.i), clock, locked)
        if self.pll is not None:
            platform.add_clock_constraint(clock, float(self.hz))

        m.domains.por = ClockDomain("por", local=True)
        m.d.comb += ClockSignal("por").eq(clock)
        m.submodules.lock_sync = ResetSynchronizer(~locked, domain="por")
        last = int(_RESET_S * self.hz)
        timer = Signal(range(last + 1))
        with m.If(timer == last):
            m.d.por += self.rst.eq(0)
        with m.Else():
            m.d.por += timer.eq(timer + 1)
        return m

    def _ice40(self, primitive: str, source: tuple[str, str, Any], clock: Signal, locked: Signal) -> Instance:
        pll = self.pll
        assert isinstance(pll, Ice40Pll)
        return Instance(
            primitive,
            source,
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=Const(pll.divr, 4),
            p_DIVF=Const(pll.divf, 7),
            p_DIVQ=Const(pll.divq, 3),
            p_FILTER_RANGE=Const(pll.filter_range, 3),
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )

    def _ecp5(self, source: Signal, clock: Signal, locked: Signal) -> Instance:
        pll = self.pll
        assert isinstance(pll, Ecp5Pll)
        return Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self.board.oscillator_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{float(pll.hz) / 1e6:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=pll.clki_div,
            p_CLKFB_DIV=pll.clkfb_div,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=pll.clkop_div,
            p_CLKOP_CPHASE=(pll.clkop_div - 1) // 2,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=source,
            i_CLKFB=clock,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=clock,
            o_LOCK=locked,
        )
