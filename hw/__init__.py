"""The hardware: Amaranth components, and how a network becomes a design.

Every component stands alone in any Amaranth design; ``docs/components.md`` has an example of each:

>>> from fewbit.hw import XnorPopcount, verilog
>>> text = verilog(XnorPopcount(64), "xnor_popcount")
"""

from typing import TYPE_CHECKING

from fewbit.lazy import lazy

if TYPE_CHECKING:
    from fewbit.hw.emit import verilog
    from fewbit.hw.fold import AffineFold, Folding, JoinFold, MatVecFold, ThresholdFold, WindowFold
    from fewbit.hw.lanes.shift_decoder import ShiftDecoder
    from fewbit.hw.lanes.shift_lane import ShiftLane
    from fewbit.hw.layers.affine import AffineUnit
    from fewbit.hw.layers.argmax import ArgMaxUnit
    from fewbit.hw.layers.conv import ConvUnit
    from fewbit.hw.layers.fork import Fork
    from fewbit.hw.layers.join import AddUnit, ConcatUnit
    from fewbit.hw.layers.multiply_shift import MultiplyShiftLane
    from fewbit.hw.layers.pool import PoolUnit
    from fewbit.hw.layers.threshold import ThresholdUnit
    from fewbit.hw.layers.window import WindowUnit
    from fewbit.hw.matvec.binary_mac import BinaryMac
    from fewbit.hw.matvec.bit_serial import BitSerialMatVec
    from fewbit.hw.matvec.fused_sign import SignMatVec
    from fewbit.hw.matvec.parallel import MatVec
    from fewbit.hw.matvec.term_serial import TermSerialMatVec
    from fewbit.hw.memory.fifo import Fifo
    from fewbit.hw.memory.vector_buffer import VectorBuffer
    from fewbit.hw.multiply.csd import CsdMultiplier
    from fewbit.hw.multiply.csd_serial import CsdMultiplierSerial
    from fewbit.hw.multiply.dsp import DspMultiplier
    from fewbit.hw.multiply.exact import Multiplier
    from fewbit.hw.multiply.recoder import Recoder
    from fewbit.hw.streams import Gearbox, Pack, Unpack
    from fewbit.hw.sums.popcount import GatedPopcount, Popcount, XnorPopcount
    from fewbit.hw.top import Top

__getattr__, __dir__, _names = lazy(
    __name__,
    {
        "AddUnit": "fewbit.hw.layers.join",
        "AffineUnit": "fewbit.hw.layers.affine",
        "ArgMaxUnit": "fewbit.hw.layers.argmax",
        "BinaryMac": "fewbit.hw.matvec.binary_mac",
        "BitSerialMatVec": "fewbit.hw.matvec.bit_serial",
        "ConcatUnit": "fewbit.hw.layers.join",
        "ConvUnit": "fewbit.hw.layers.conv",
        "CsdMultiplier": "fewbit.hw.multiply.csd",
        "CsdMultiplierSerial": "fewbit.hw.multiply.csd_serial",
        "DspMultiplier": "fewbit.hw.multiply.dsp",
        "AffineFold": "fewbit.hw.fold",
        "Fifo": "fewbit.hw.memory.fifo",
        "Folding": "fewbit.hw.fold",
        "Fork": "fewbit.hw.layers.fork",
        "JoinFold": "fewbit.hw.fold",
        "MatVecFold": "fewbit.hw.fold",
        "ThresholdFold": "fewbit.hw.fold",
        "WindowFold": "fewbit.hw.fold",
        "GatedPopcount": "fewbit.hw.sums.popcount",
        "Gearbox": "fewbit.hw.streams",
        "MatVec": "fewbit.hw.matvec.parallel",
        "Multiplier": "fewbit.hw.multiply.exact",
        "MultiplyShiftLane": "fewbit.hw.layers.multiply_shift",
        "Pack": "fewbit.hw.streams",
        "PoolUnit": "fewbit.hw.layers.pool",
        "Popcount": "fewbit.hw.sums.popcount",
        "Recoder": "fewbit.hw.multiply.recoder",
        "ShiftDecoder": "fewbit.hw.lanes.shift_decoder",
        "ShiftLane": "fewbit.hw.lanes.shift_lane",
        "SignMatVec": "fewbit.hw.matvec.fused_sign",
        "TermSerialMatVec": "fewbit.hw.matvec.term_serial",
        "ThresholdUnit": "fewbit.hw.layers.threshold",
        "Top": "fewbit.hw.top",
        "Unpack": "fewbit.hw.streams",
        "VectorBuffer": "fewbit.hw.memory.vector_buffer",
        "WindowUnit": "fewbit.hw.layers.window",
        "XnorPopcount": "fewbit.hw.sums.popcount",
        "verilog": "fewbit.hw.emit",
    },
)

__all__ = [
    "AddUnit", "AffineFold", "AffineUnit", "ArgMaxUnit", "BinaryMac", "BitSerialMatVec", "ConcatUnit", "ConvUnit",
    "CsdMultiplier", "CsdMultiplierSerial", "DspMultiplier", "Fifo", "Folding", "Fork", "GatedPopcount", "Gearbox",
    "JoinFold", "MatVec", "MatVecFold", "Multiplier", "MultiplyShiftLane", "Pack", "PoolUnit", "Popcount", "Recoder",
    "ShiftDecoder", "ShiftLane", "SignMatVec", "TermSerialMatVec", "ThresholdFold", "ThresholdUnit", "Top", "Unpack",
    "VectorBuffer", "WindowFold", "WindowUnit", "XnorPopcount", "verilog",
]  # fmt: skip
