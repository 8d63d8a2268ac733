"""Verilog text: long memories in short initial blocks."""

from __future__ import annotations

import re

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.hw.emit import WORDS_A_BLOCK, verilog


class Words(wiring.Component):
    """A memory of constants, read at an address."""

    def __init__(self, words: list[int]) -> None:
        self.words = words
        super().__init__({"address": In(range(len(words))), "data": Out(9)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.memory = memory = Memory(shape=9, depth=len(self.words), init=self.words)
        port = memory.read_port()
        m.d.comb += [port.addr.eq(self.address), self.data.eq(port.data), port.en.eq(1)]
        return m


@pytest.mark.parametrize("depth", [2, WORDS_A_BLOCK, WORDS_A_BLOCK + 1, 5 * WORDS_A_BLOCK])
def test_initial_blocks_are_short_and_whole(depth: int) -> None:
    words = [(37 * place + 5) % 512 for place in range(depth)]
    text = verilog(Words(words), "words")
    blocks = re.findall(r"initial begin\n(.*?)\n +end\n", text, re.DOTALL)
    assert len(blocks) == -(-depth // WORDS_A_BLOCK)
    assert max(block.count(";") for block in blocks) <= WORDS_A_BLOCK
    filled = re.findall(r"\[(\d+)\] = 9'h(\w+);", "\n".join(blocks))
    assert [(int(place), int(word, 16)) for place, word in filled] == list(enumerate(words))
