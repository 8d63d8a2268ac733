"""Weight bandwidth: how many bits of weights a plan reads a cycle, compared with what its block RAMs could read."""

from __future__ import annotations

from dataclasses import dataclass

from fewbit.golden.network import Conv, Linear
from fewbit.hw.costs.parts import stored_words
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import FUSED_SIGN, TERMS, MatVecFold
from fewbit.hw.matvec.fused_sign import STARTS
from fewbit.hw.matvec.term_serial import term_memory
from fewbit.hw.memory.kinds import MEMORIES


@dataclass(frozen=True, kw_only=True)
class WeightReads:
    """How a layer reads its weights.

    Attributes
    ----------
    word : int
        Bits that are read at a time: the weights and the digits of their scales. Bits that are the same in every word
        are
        not counted, but weights count with at least the bits of their code.
    depth : int
        Words of the weight memory.
    words : int
        Words read for a frame.
    rams : int
        Block RAMs that hold the weights; 0 if they are in other memory.
    gives : int
        Bits that these block RAMs can read a cycle, at their widest word.
    """

    word: int
    depth: int
    words: int
    rams: int
    gives: int

    @classmethod
    def of(cls, layer: Linear, fold: MatVecFold, target: Target, *, positions: int = 1) -> WeightReads:
        """The weight reads of ``layer``, which computes ``positions`` products a frame, including fused thresholds."""
        if fold.unit == TERMS:
            groups = layer.groups if isinstance(layer, Conv) else 1
            depth, word = term_memory(layer.position(), fold.pe, fold.simd, groups)
            ram_word = word
        else:
            stored = stored_words(layer.position(), fold.pe, fold.simd)
            depth = stored.depth + (layer.outputs // fold.pe * STARTS if fold.unit == FUSED_SIGN else 0)
            ram_word, word = stored.vary, max(stored.vary, fold.pe * fold.simd * layer.code.bits)
        rams = MEMORIES[fold.memory].block_rams(depth, ram_word, target)
        return cls(word=word, depth=depth, words=positions * depth, rams=rams, gives=rams * target.widest_word)

    def bits_per_cycle(self, cycles: int) -> float:
        """Bits of weights read a cycle, on average, if a frame takes ``cycles``."""
        return self.word * self.words / cycles

    def share(self, cycles: int) -> float | None:
        """:meth:`bits_per_cycle` divided by what the block RAMs can read; None if there are no block RAMs."""
        return self.bits_per_cycle(cycles) / self.gives if self.gives else None
