"""A trained network, float or in integers already, to one with few-bit weights: one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fewbit.engines import check_classes, check_labels, network_inputs, run_golden
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.golden.quantizers.bands import Criterion
from fewbit.golden.quantizers.rules import Quantized
from fewbit.golden.quantizers.rules import quantize as quantize_weights
from fewbit.importers.float_onnx.network import FloatNetwork, Floats
from fewbit.importers.lowering.products import stores_scales
from fewbit.input_kind import InputKind
from fewbit.passes import flatten_channels_last
from fewbit.quantization.activation_range import Activation
from fewbit.quantization.calibration import SYNTHETIC_MARGIN, choose_activations, float_inputs, synthetic_inputs
from fewbit.quantization.output_criterion import output_criterion
from fewbit.quantization.recipe import Recipe
from fewbit.quantization.requantize import requantize, weights_of
from fewbit.quantization.to_integers import to_integers

CRITERION_FRAMES = 1000
"""Calibration frames that the search for bands runs, at most."""

Progress = Callable[[str], object]
"""Told the step that begins."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What :func:`quantize` gave.

    Attributes
    ----------
    source : FloatNetwork or Network
    network : Network
    weights : dict of Quantized
        By layer, in order.
    activations : tuple of Activation or None
        Behind each product; None where the network ends in sums. Of a network in integers empty: they stay.
    input : InputKind or None
        Of a network in integers None.
    recipes : dict of Recipe
        By layer, in order.
    """

    source: FloatNetwork | Network
    network: Network
    weights: dict[str, Quantized]
    activations: tuple[Activation | None, ...] = ()
    input: InputKind | None = None
    recipes: dict[str, Recipe]

    def scale_bits(self, name: str) -> int:
        """Of a stored scale of layer ``name``; 0 where thresholds have taken them in."""
        return self.recipes[name].scale_bits if stores_scales(self.weights[name]) else 0

    def memory_bits(self, name: str) -> int:
        """Of layer ``name``, by equation 12: its code words and its stored scales."""
        return self.weights[name].memory_bits(self.scale_bits(name))


def quantize(
    source: FloatNetwork | Network,
    recipe: Recipe,
    *,
    layers: Mapping[str, Recipe] | None = None,
    activations: int | None = None,
    input: str | None = None,
    calibration: Ints | None = None,
    on_progress: Progress | None = None,
) -> Quantization:
    """``source`` with few-bit weights and, if it is float, few-bit activations, in integers.

    Parameters
    ----------
    recipe : Recipe
        Of every layer but those that ``layers`` names.
    activations : int, optional
        Bits of the activations of a float network, 1 to 8; left out, 8.
    input : str, optional
        What the input of a float network is made of; left out, ``uint8/255``. See
        :func:`fewbit.importers.qonnx.reader.load`.
    calibration : array (N, ...), optional
        Frames, of the input integers or of floats, that activation ranges are taken from, and by which the search for
        bands goes, in place of synthetic frames and the weights' squared error.

    Raises
    ------
    FewbitError
        If a layer, rule, code or option does not go with the others, or a scale overflows its width.
    """
    named = dict(layers or {})
    tell = on_progress or (lambda step: None)
    if isinstance(source, Network):
        for option, given in (("activations", activations), ("input", input), ("calibration", calibration)):
            if given is not None:
                raise FewbitError(f"{option} is for float networks: {source.name!r} is one in integers already")
        source = flatten_channels_last(source)  # so that vectors lie as hardware streams them
        matrices = weights_of(source)
        recipes = _recipes(matrices, recipe, named)
        made = {}
        for name, matrix in matrices.items():
            tell(name)
            made[name] = _made(name, matrix, recipes[name])
        network = requantize(source, made, _last(recipes).scale_bits)
        return Quantization(source=source, network=network, weights=made, recipes=recipes)
    bits = 8 if activations is None else activations
    if not 1 <= bits <= 8:
        raise FewbitError(f"activations have 1 to 8 bits, not {bits}")
    kind = input_kind(input)
    source = source.flattened_channels_last()
    recipes = _recipes({one.name: one.matrix for one in source.products}, recipe, named)
    if calibration is None:
        frames, margin = synthetic_inputs(kind, source.shape), SYNTHETIC_MARGIN
    else:
        frames, margin = float_inputs(source, kind, calibration), 1.0
        if not len(frames):
            raise FewbitError("calibration needs a frame or more")
    made, quantized = {}, source
    scores = None if calibration is None else source.run(frames[:CRITERION_FRAMES], stop=source.scores_at)
    for product in source.products:
        tell(product.name)
        own, criterion = recipes[product.name], None
        if scores is not None and own.rule != "nearest":
            criterion = output_criterion(quantized, product.name, frames[: len(scores)], scores)
        weights = _made(product.name, product.matrix, own, criterion)
        made[product.name] = weights
        quantized = quantized.with_products({product.name: product.with_matrix(weights.reals)})
    tell("activations")
    chosen = choose_activations(quantized, frames, bits, margin)
    tell("thresholds")
    network = to_integers(source, made, chosen, kind, _last(recipes).scale_bits)
    return Quantization(source=source, network=network, weights=made, activations=chosen, input=kind, recipes=recipes)


def input_kind(text: str | None) -> InputKind:
    """What a float input is made of where the user says ``text``: of pixels / 255 where he says nothing."""
    return InputKind.parse("uint8/255" if text is None else text)


def _recipes(matrices: Mapping[str, Floats], recipe: Recipe, named: Mapping[str, Recipe]) -> dict[str, Recipe]:
    for name in named:
        if name not in matrices:
            raise FewbitError(f"there is no layer {name!r} with weights, only {', '.join(matrices)}")
    return {name: named.get(name, recipe) for name in matrices}


def _last(recipes: Mapping[str, Recipe]) -> Recipe:
    return list(recipes.values())[-1]


def _made(name: str, matrix: Floats, recipe: Recipe, criterion: Criterion | None = None) -> Quantized:
    """Quantized weights, their scales in fixed point where the layer has to store them."""
    try:
        made = quantize_weights(
            np.asarray(matrix, np.float64),
            recipe.code,
            recipe.vectors,
            rule=recipe.rule,
            two_scales=recipe.two_scales,
            criterion=criterion,
        )
        return made.in_fixed_point(recipe.scale_bits, recipe.scale_fraction) if stores_scales(made) else made
    except FewbitError as error:
        raise FewbitError(f"layer {name!r}: {error}") from None


def accuracy(network: FloatNetwork | Network, frames: Ints, labels: Ints, kind: InputKind | None = None) -> float:
    """Share of ``frames``, 0 to 1, of which ``network`` gives the class in ``labels``.

    Parameters
    ----------
    kind : InputKind, optional
        What the input is made of, of a float network and of one that was made of it; ``frames`` are integers of that
        kind, or floats.

    Raises
    ------
    FewbitError
        If frames or labels are not the network's.
    """
    labels = np.asarray(labels)
    if isinstance(network, FloatNetwork):
        assert kind is not None
        inputs = float_inputs(network, kind, frames)
        check_classes(labels, len(frames), network.classes)
        return float(np.mean(network.classify(inputs) == labels))
    integers = network_inputs(network, frames if kind is None else kind.integers(frames))
    check_labels(network, labels, len(integers))
    return run_golden(network, integers).accuracy(labels)
