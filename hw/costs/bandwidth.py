"""Weight bandwidth: how many bits of weights a plan reads a cycle, and how many its block RAMs could give."""

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
    """What a layer reads of its weights.

    Attributes
    ----------
    word : int
        Bits of a word of its memory that are not the same in every word: the weights that work at a time, and the
        digits of their scales; of the weights at least the bits of their code.
    depth : int
        Words of the memory.
    words : int
        Words read a frame.
    rams : int
        Block RAMs that hold them; 0 where they lie elsewhere.
    gives : int
        Bits a cycle that these RAMs give where each reads its widest word.
    """

    word: int
    depth: int
    words: int
    rams: int
    gives: int

    @classmethod
    def of(cls, layer: Linear, fold: MatVecFold, target: Target, *, positions: int = 1) -> WeightReads:
        """Those of ``layer``, which is ``positions`` products a frame, and of thresholds among them."""
        if fold.unit == TERMS:
            groups = layer.groups if isinstance(layer, Conv) else 1
            depth, word = term_memory(layer.position(), fold.pe, fold.simd, groups)
            held = word
        else:
            stored = stored_words(layer.position(), fold.pe, fold.simd)
            depth = stored.depth + (layer.outputs // fold.pe * STARTS if fold.unit == FUSED_SIGN else 0)
            held, word = stored.vary, max(stored.vary, fold.pe * fold.simd * layer.code.bits)
        rams = MEMORIES[fold.memory].block_rams(depth, held, target)
        return cls(word=word, depth=depth, words=positions * depth, rams=rams, gives=rams * target.widest_word)

    def bits_per_cycle(self, cycles: int) -> float:
        """Read on average where a frame takes ``cycles``."""
        return self.word * self.words / cycles

    def share(self, cycles: int) -> float | None:
        """:meth:`bits_per_cycle`, of what the block RAMs give; None where there are none."""
        return self.bits_per_cycle(cycles) / self.gives if self.gives else None
