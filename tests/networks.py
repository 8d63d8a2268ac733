"""Random small networks and foldings: every kind of layer, number, code, buffer and threshold in some."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.network import (
    INPUT,
    Add,
    Affine,
    ArgMax,
    Concat,
    Conv,
    Dense,
    Flatten,
    Layer,
    Network,
    Pool,
    TensorType,
    Threshold,
)
from fewbit.hw.fold import FUSED, FUSED_SIGN, Fold, Folding, JoinFold, MatVecFold, ThresholdFold, WindowFold
from fewbit.hw.matvec.fused_sign import fuses, has_starts


def divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


def random_frames(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Ints:
    """Values of ``dtype``, the ends of its range among them more often than by chance."""
    values = np.arange(dtype.min, dtype.max + 1, dtype.step)
    frames = rng.choice(values, shape)
    return np.where(rng.random(shape) < 0.1, rng.choice(values[[0, -1]], shape), frames)


def random_threshold(
    rng: np.random.Generator,
    name: str,
    dtype: DType,
    rows: int,
    low: int,
    high: int,
    count: int | None = None,
) -> Threshold:
    """Thresholds from one below ``low`` to two above ``high``: some never reached, some always."""
    count = (dtype.max - dtype.min) // dtype.step if count is None else count
    return Threshold(
        name=name,
        thresholds=np.sort(rng.integers(low - 1, high + 3, (rows, count)), 1),
        sign=rng.choice([-1, 1], rows),
        dtype=dtype,
        base=dtype.min,
    )


def requantization(
    rng: np.random.Generator,
    channels: int,
    count: int,
    bits: int,
    *,
    alike: bool = False,
    signs: tuple[int, ...] = (-1, 1),
) -> tuple[Threshold, Ints, Ints]:
    """Thresholds as a folded batch normalization leaves them, equally spaced and rounded up, and each channel's reach
    in sums of ``bits`` bits; ``alike``: equally spaced in all channels."""
    widest = 1 << bits - 1
    spacing = rng.uniform(0.1, 2 * widest / count, 1 if alike else channels)
    middle = rng.uniform(-widest / 2, widest / 2, channels)
    places = np.arange(count) - (count - 1) / 2
    layer = Threshold(
        name="t",
        thresholds=np.ceil(middle[:, None] + np.resize(spacing, channels)[:, None] * places),
        sign=rng.choice(signs, channels),
        dtype=DType("uint", count.bit_length()),
        base=0,
    )
    return layer, -rng.integers(1, widest + 1, channels), rng.integers(0, widest, channels)


def random_design(rng: np.random.Generator) -> tuple[Network, Folding]:
    """A network of one to three dense layers, and a folding of it."""
    dtype = DType.parse(rng.choice(["uint8", "bipolar", "bipolar", "uint2", "int3"]))
    inputs = int(rng.choice([1, 4, 6, 7, 8, 12, 24]))
    shape = (inputs,) if inputs % 2 or rng.random() < 0.5 else (2, inputs // 2)
    source = TensorType(dtype, shape)
    layers: list[Layer] = []
    folds: dict[str, Fold] = {}
    if rng.random() < 0.5:
        dtype = DType.parse(rng.choice(["bipolar", "uint2"]))
        layers.append(random_threshold(rng, "quantize", dtype, 1, source.dtype.min, source.dtype.max))
        folds["quantize"] = ThresholdFold(
            lanes=int(rng.choice(divisors(inputs))), form=str(rng.choice(["comparators", "search"]))
        )
    if len(shape) > 1:
        layers.append(Flatten(name="flatten"))
    size = inputs
    for index in range(int(rng.integers(1, 4))):
        outputs = int(rng.choice([1, 2, 4, 5, 6, 8, 10]))
        code = Code.parse(rng.choice(["binary", "binary", "ternary", "quinary", "shift3", "int(3)"]))
        dense = Dense(name=f"dense_{index}", weights=rng.choice(code.levels, (outputs, size)), code=code)
        layers.append(dense)
        folds[dense.name] = MatVecFold(
            pe=int(rng.choice(divisors(outputs))),
            simd=int(rng.choice(divisors(size))),
            memory=str(rng.choice(["block", "logic"])),
            buffer=str(rng.choice(["block", "distributed", "ring"])),
            stages=int(rng.integers(1, 4)),
        )
        low, high = dense.bounds(dtype)
        before, size, dtype = dtype, outputs, dense.output(TensorType(dtype, (size,))).dtype
        if rng.random() < 0.8:
            dtype = DType.parse(rng.choice(["bipolar", "bipolar", "uint2", "int2", "uint4", "int4"]))
            rows = size if rng.random() < 0.8 else 1
            layers.append(random_threshold(rng, f"threshold_{index}", dtype, rows, int(low.min()), int(high.max())))
            folds[f"threshold_{index}"] = ThresholdFold(
                lanes=int(rng.choice(divisors(size))),
                form=str(rng.choice(["comparators", "search"])),
                memory=str(rng.choice(["block", "logic"])),
            )
            fold, threshold = folds[dense.name], layers[-1]
            assert isinstance(threshold, Threshold)
            assert isinstance(fold, MatVecFold)
            words = dense.fan_in // fold.simd
            may = before.kind == "bipolar" and fuses(dense, threshold) and has_starts(dense.fan_in, fold.simd)
            if may and rng.random() < 0.7:
                folds[dense.name] = replace(fold, unit=FUSED_SIGN, stages=min(fold.stages, words))
                folds[threshold.name] = ThresholdFold(form=FUSED)
    if rng.random() < 0.3:
        layers.append(Affine(name="affine", scale=rng.integers(-9, 10, size), bias=rng.integers(-100, 101, size)))
    if rng.random() < 0.8:
        layers.append(ArgMax(name="argmax"))
    return (
        Network(name="random", input=source, layers=tuple(layers)),
        Folding(input_lanes=int(rng.choice(divisors(inputs))), folds=folds),
    )


def streamed_design(rng: np.random.Generator) -> tuple[Network, Folding]:
    """A binary network in a folding whose thresholds are fused into the weight stream."""
    sizes = [int(size) for size in rng.choice([24, 32, 36, 48, 60], 3)]
    layers: list[Layer] = []
    folds: dict[str, Fold] = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        code = Code.parse("binary")
        dense = Dense(name=f"dense_{index}", weights=rng.choice(code.levels, (outputs, inputs)), code=code)
        rows = outputs if rng.random() < 0.8 else 1
        dtype = DType.parse("bipolar")
        layers += [dense, random_threshold(rng, f"sign_{index}", dtype, rows, -8, 8)]
        simd = int(rng.choice([one for one in divisors(inputs) if has_starts(inputs, one)]))
        folds[dense.name] = MatVecFold(
            unit=FUSED_SIGN,
            pe=int(rng.choice(divisors(outputs))),
            simd=simd,
            memory=str(rng.choice(["block", "logic"])),
            buffer=str(rng.choice(["block", "distributed", "ring"])),
            stages=int(rng.integers(1, inputs // simd + 1)),
        )
        folds[f"sign_{index}"] = ThresholdFold(form=FUSED)
    last = Code.parse("ternary")
    layers.append(Dense(name="last", weights=rng.choice(last.levels, (5, sizes[-1])), code=last))
    network = Network(name="streamed", input=TensorType(DType.parse("bipolar"), (sizes[0],)), layers=tuple(layers))
    return network, Folding(input_lanes=int(rng.choice(divisors(sizes[0]))), folds=folds)


def random_windows(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Kernel, stride and padding of windows that a map of ``shape`` has room for."""
    _, height, width = shape
    kernel = (int(rng.integers(1, min(height, 3) + 1)), int(rng.integers(1, min(width, 3) + 1)))
    padding = tuple(int(rng.integers(0, limit)) if rng.random() < 0.4 else 0 for limit in (*kernel, *kernel))
    return {"kernel": kernel, "stride": (int(rng.integers(1, 3)), int(rng.integers(1, 3))), "padding": padding}


def random_map_layers(rng: np.random.Generator, source: TensorType, index: int) -> tuple[list[Layer], dict[str, Fold]]:
    """A convolution or a pool, what may follow it, and their folds."""
    channels = source.shape[0]
    window = random_windows(rng, source.shape)
    rows = window["kernel"][0] + window["stride"][0] + int(rng.integers(0, 3))
    lines = str(rng.choice(["block", "distributed"]))
    if rng.random() < 0.3:
        pool = Pool(name=f"pool_{index}", mode=str(rng.choice(["max", "sum"])), **window)
        return [pool], {pool.name: WindowFold(lanes=int(rng.choice(divisors(channels))), rows=rows, memory=lines)}
    kernel = window.pop("kernel")
    groups = int(rng.choice(divisors(channels))) if rng.random() < 0.4 else 1
    outputs = groups * int(rng.integers(1, 4))
    code = Code.parse(rng.choice(["binary", "binary", "ternary", "quinary", "shift3", "int(3)"]))
    conv = Conv(
        name=f"conv_{index}",
        weights=rng.choice(code.levels, (outputs, channels // groups, *kernel)),
        code=code,
        groups=groups,
        **window,
    )
    fold = MatVecFold(
        pe=int(rng.choice(divisors(outputs // groups))),
        simd=int(rng.choice(divisors(conv.fan_in))),
        memory=str(rng.choice(["block", "logic"])),
        buffer=str(rng.choice(["block", "distributed", "ring"])),
        stages=int(rng.integers(1, 3)),
        window=WindowFold(lanes=int(rng.choice(divisors(channels // groups))), rows=rows, memory=lines),
    )
    layers: list[Layer] = [conv]
    folds: dict[str, Fold] = {conv.name: fold}
    if rng.random() < 0.7:
        low, high = conv.bounds(source.dtype)
        dtype = DType.parse(rng.choice(["bipolar", "bipolar", "uint2", "int2"]))
        row = outputs if rng.random() < 0.8 else 1
        threshold = random_threshold(rng, f"threshold_{index}", dtype, row, int(low.min()), int(high.max()))
        layers.append(threshold)
        folds[threshold.name] = ThresholdFold(
            lanes=int(rng.choice(divisors(outputs))), form=str(rng.choice(["comparators", "search"]))
        )
        may = conv.lane_kind(source.dtype).kind == "bipolar" and fuses(conv.position(), threshold)
        if may and has_starts(conv.fan_in, fold.simd) and rng.random() < 0.7:
            folds[conv.name] = replace(fold, unit=FUSED_SIGN, stages=min(fold.stages, conv.fan_in // fold.simd))
            folds[threshold.name] = ThresholdFold(form=FUSED)
    if rng.random() < 0.2:
        layers.append(
            Affine(name=f"gain_{index}", scale=rng.integers(-3, 4, outputs), bias=rng.integers(-9, 9, outputs))
        )
    return layers, folds


def random_conv_design(rng: np.random.Generator) -> tuple[Network, Folding]:
    """A network of one or two convolutions or pools, a dense layer behind them or not, and a folding of it."""
    dtype = DType.parse(rng.choice(["uint4", "bipolar", "bipolar", "uint2", "int3"]))
    source = TensorType(dtype, (int(rng.integers(1, 5)), int(rng.integers(2, 7)), int(rng.integers(2, 7))))
    layers: list[Layer] = []
    folds: dict[str, Fold] = {}
    here = source
    for index in range(int(rng.integers(1, 3))):
        more, own = random_map_layers(rng, here, index)
        for layer in more:
            here = layer.output(here)
        layers += more
        folds |= own
    if rng.random() < 0.7 and here.dtype.bits <= 10:
        code = Code.parse(rng.choice(["binary", "ternary", "shift3"]))
        outputs = int(rng.integers(1, 6))
        dense = Dense(name="dense", weights=rng.choice(code.levels, (outputs, here.size)), code=code)
        layers += [Flatten(name="flatten", channels_last=True), dense]
        folds["dense"] = MatVecFold(pe=int(rng.choice(divisors(outputs))), simd=int(rng.choice(divisors(here.size))))
        if rng.random() < 0.8:
            layers.append(ArgMax(name="argmax"))
    network = Network(name="random", input=source, layers=tuple(layers))
    return network, Folding(input_lanes=int(rng.choice(divisors(source.size))), folds=folds)


class Graph:
    """Random layers put together one by one, each with its fold."""

    def __init__(self, rng: np.random.Generator, source: TensorType) -> None:
        self.rng, self.source = rng, source
        self.layers: list[Layer] = []
        self.folds: dict[str, Fold] = {}
        self.types = {INPUT: source}

    def add(self, layer: Layer, fold: Fold | None = None) -> str:
        self.layers.append(layer)
        self.types[layer.name] = layer.output_of([self.types[name] for name in layer.inputs])
        if fold is not None:
            self.folds[layer.name] = fold
        return layer.name

    def name(self, kind: str) -> str:
        return f"{kind}_{len(self.layers)}"

    def lanes(self, elements: int) -> int:
        return int(self.rng.choice(divisors(elements)))

    def requantized(self, source: str) -> str:
        """Thresholds for every channel, or for all."""
        rng, kind = self.rng, self.types[source]
        dtype = DType.parse(rng.choice(["bipolar", "uint2", "int2", "uint3"]))
        rows = kind.shape[0] if rng.random() < 0.7 else 1
        ends = max(kind.dtype.min, -40), min(kind.dtype.max, 40)
        layer = random_threshold(rng, self.name("threshold"), dtype, rows, *ends)
        fold = ThresholdFold(lanes=self.lanes(kind.shape[0]), form=str(rng.choice(["comparators", "search"])))
        return self.add(replace(layer, inputs=(source,)), fold)

    def product(self, source: str, outputs: int, kernel: int = 1, stride: int = 1) -> str:
        """A convolution that keeps the size of a map but for its stride, or a dense layer."""
        rng, kind = self.rng, self.types[source]
        code = Code.parse(rng.choice(["binary", "ternary", "quinary", "shift3", "int(3)"]))
        rows = kernel + stride + int(rng.integers(0, 3))
        if len(kind.shape) == 1:
            layer: Layer = Dense(name=self.name("dense"), weights=rng.choice(code.levels, (outputs, kind.size)),
                                 code=code, inputs=(source,))  # fmt: skip
            window = WindowFold()
        else:
            pads = (kernel // 2, kernel // 2, (kernel - 1) // 2, (kernel - 1) // 2)
            weights = rng.choice(code.levels, (outputs, kind.shape[0], kernel, kernel))
            layer = Conv(name=self.name("conv"), weights=weights, code=code, stride=(stride, stride), padding=pads,
                         inputs=(source,))  # fmt: skip
            window = WindowFold(lanes=self.lanes(kind.shape[0]), rows=rows)
        fold = MatVecFold(
            pe=self.lanes(outputs),
            simd=self.lanes(layer.fan_in),
            buffer=str(rng.choice(["block", "ring"])),
            window=window,
        )
        return self.add(layer, fold)

    def joined(self, sources: list[str]) -> str:
        """Their sum where they are alike, and otherwise one beside the other."""
        rng, kinds = self.rng, [self.types[name] for name in sources]
        lanes = min(self.lanes(kind.shape[0]) for kind in kinds)
        if len({kind.shape for kind in kinds}) == 1 and rng.random() < 0.7:
            gains = rng.choice([1, 1, 2, -1, 4, 3, -11], len(sources))
            return self.add(Add(name=self.name("add"), gains=gains, inputs=tuple(sources)), JoinFold(lanes=lanes))
        fold = JoinFold(lanes=max(one for one in divisors(lanes) if all(kind.shape[0] % one == 0 for kind in kinds)))
        return self.add(Concat(name=self.name("concat"), inputs=tuple(sources)), fold)

    def block(self, source: str) -> str:
        """Branches from ``source`` that are joined again."""
        rng, kind = self.rng, self.types[source]
        stride = int(rng.choice([1, 1, 2])) if len(kind.shape) == 3 and min(kind.shape[1:]) > 1 else 1
        outputs = kind.shape[0] if rng.random() < 0.5 else int(rng.choice([2, 4]))
        branches = []
        for _ in range(int(rng.choice([2, 2, 3]))):
            name, left = source, stride
            for _ in range(int(rng.integers(0, 3))):
                name = self.product(name, outputs, int(rng.choice([1, 2, 3])), left)
                left = 1
                if rng.random() < 0.7:
                    name = self.requantized(name)
                elif rng.random() < 0.3 and len(kind.shape) == 3:
                    pool = Pool(name=self.name("pool"), mode="max", kernel=(2, 2), stride=(1, 1), padding=(0, 0, 1, 1),
                                inputs=(name,))  # fmt: skip
                    name = self.add(pool, WindowFold(lanes=self.lanes(self.types[name].shape[0]), rows=4))
            if left != 1:
                name = self.product(name, outputs, 1, left)
            branches.append(name)
        return self.joined(branches)


def random_graph_design(rng: np.random.Generator) -> tuple[Network, Folding]:
    """A network of one or two blocks of branches that are joined, of maps or of vectors, and a folding of it."""
    dtype = DType.parse(rng.choice(["uint4", "bipolar", "uint2", "int3"]))
    channels = int(rng.choice([1, 2, 4, 6]))
    maps = rng.random() < 0.7
    shape = (channels, int(rng.integers(2, 7)), int(rng.integers(2, 7))) if maps else (2 * channels,)
    graph = Graph(rng, TensorType(dtype, shape))
    here = INPUT
    if rng.random() < 0.5:
        here = graph.requantized(graph.product(here, int(rng.choice([2, 4])), 3))
    for _ in range(int(rng.integers(1, 3))):
        here = graph.block(here)
        if rng.random() < 0.8 or graph.types[here].dtype.bits > 8:
            here = graph.requantized(here)
    if rng.random() < 0.6:
        if maps:
            here = graph.add(Flatten(name="flatten", channels_last=True, inputs=(here,)))
        here = graph.product(here, int(rng.integers(1, 6)))
        here = graph.add(ArgMax(name="argmax", inputs=(here,)))
    network = Network(name="random", input=graph.source, layers=tuple(graph.layers))
    return network, Folding(input_lanes=int(rng.choice(divisors(graph.source.size))), folds=graph.folds)
