"""Asynchronous serial receiver and transmitter: 8 data bits, least significant first, no parity, 1 stop bit (8N1)."""

from fractions import Fraction

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError

_SLOWEST_DIVISOR = 8
_TOLERANCE = Fraction(2, 100)


def divisor(clock_hz: int | Fraction, baud: int) -> int:
    """Number of clock cycles per bit at ``baud``.

    >>> divisor(12_000_000, 115_200)
    104

    Raises
    ------
    FewbitError
        If the rounded bit rate differs from ``baud`` by more than 2 %, or a bit has fewer than 8 cycles.
    """
    megahertz = f"{float(clock_hz) / 1e6:g} MHz"
    if baud < 1:
        raise FewbitError(f"the baud rate must be positive, not {baud}")
    cycles = round(Fraction(clock_hz) / baud)
    if cycles < _SLOWEST_DIVISOR:
        top = int(Fraction(clock_hz) / _SLOWEST_DIVISOR)
        raise FewbitError(f"{baud} baud is too fast for a clock of {megahertz}: ask for at most {top} baud")
    actual = Fraction(clock_hz) / cycles
    if abs(actual - baud) > _TOLERANCE * baud:
        raise FewbitError(
            f"{baud} baud is {float(abs(actual / baud - 1)) * 100:.1f} % off at a clock of {megahertz}, "
            f"over 2 %: ask for {round(actual)} baud or another clock"
        )
    return int(cycles)


class UARTReceiver(wiring.Component):
    """Receives bytes from a serial line.

    The line is sampled every clock cycle and filtered by a majority of three consecutive samples, which removes
    glitches of one cycle. A falling edge starts a byte if the line is still low half a bit later. Each bit is then
    sampled in its middle. If the stop bit is low, the byte is dropped, ``error`` is 1 for a cycle, and the next byte
    can begin only after the line has been high again.

    **Latency**: 9.5 bit times and 4 cycles from the start edge to ``o.valid``. **Throughput**: a byte in 9.5 bit times,
    so the sender's clock may be up to 4 % faster. A byte is valid for a single cycle and must be taken in it.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, at least 8. See :func:`divisor`.

    Members
    -------
    rx : In(1)
        The line, asynchronous, 1 when idle.
    o : Out(stream.Signature(8, always_ready=True))
        Received bytes.
    error : Out(1)
        Framing error.
    """

    def __init__(self, divisor: int) -> None:
        if divisor < _SLOWEST_DIVISOR:
            raise FewbitError(f"a UART needs at least {_SLOWEST_DIVISOR} clock cycles per bit, not {divisor}")
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(8, always_ready=True)), "error": Out(1)})

    def elaborate(self, platform: object) -> Module:
        # `line` is the synchronized, filtered input. `timer` runs to the middle of the next bit. Received bits are
        # shifted into `bits` from the top.
        m = Module()
        sample, older, line = Signal(init=1), Signal(2, init=3), Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, sample, init=1)
        m.d.sync += [
            older.eq(Cat(sample, older[0])),
            line.eq((sample & older[0]) | (sample & older[1]) | (older[0] & older[1])),
        ]
        timer, middle = Signal(range(self.divisor)), Signal()
        bits, left = Signal(8), Signal(range(9))
        m.d.comb += [middle.eq(timer == 0), self.o.payload.eq(bits)]
        m.d.sync += timer.eq(Mux(middle, self.divisor - 1, timer - 1))
        with m.FSM():
            with m.State("Idle"):
                m.d.sync += timer.eq(self.divisor // 2 - 1)
                with m.If(~line):
                    m.next = "Start"
            with m.State("Start"):
                m.d.sync += left.eq(8)
                with m.If(middle):
                    m.next = "Data"
                with m.If(line):
                    m.next = "Idle"
            with m.State("Data"), m.If(middle):
                m.d.sync += [bits.eq(Cat(bits[1:], line)), left.eq(left - 1)]
                with m.If(left == 1):
                    m.next = "Stop"
            with m.State("Stop"), m.If(middle):
                m.d.comb += [self.o.valid.eq(line), self.error.eq(~line)]
                m.next = "Wait for high"
            with m.State("Wait for high"), m.If(line):
                m.next = "Idle"
        return m


class UARTTransmitter(wiring.Component):
    """Sends bytes over a serial line.

    **Latency**: the start bit begins 1 cycle after a byte is taken. **Throughput**: a byte in exactly 10 bit times,
    ``10 * divisor`` cycles, without gaps while bytes are offered.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, at least 8. See :func:`divisor`.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes to send.
    tx : Out(1)
        The line, 1 when idle, from a flip-flop.
    """

    def __init__(self, divisor: int) -> None:
        if divisor < _SLOWEST_DIVISOR:
            raise FewbitError(f"a UART needs at least {_SLOWEST_DIVISOR} clock cycles per bit, not {divisor}")
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        # `tx` is the bit on the line, `bits` are the following ones with the stop bit on top, and `left` is the number
        # of bits still to be sent, the current one included.
        m = Module()
        timer, bits, left = Signal(range(self.divisor)), Signal(9, init=0x1FF), Signal(range(11))
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(left > 1):
            m.d.sync += [self.tx.eq(bits[0]), bits.eq(bits >> 1), left.eq(left - 1), timer.eq(self.divisor - 1)]
        with m.Else():
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += left.eq(0)
            with m.If(self.i.valid):
                m.d.sync += [self.tx.eq(0), bits.eq(Cat(self.i.payload, 1)), left.eq(10), timer.eq(self.divisor - 1)]
        return m
