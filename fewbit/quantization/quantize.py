"""Quantizes a trained network, a float model or an integer network, to few-bit weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from fewbit.engines import check_classes, check_labels, network_inputs, run_golden
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.golden.quantizers.bands import Criterion
from fewbit.golden.quantizers.rules import Quantized
from fewbit.golden.quantizers.rules import quantize as quantize_weights
from fewbit.importers.float_onnx.layers import Floats
from fewbit.importers.float_onnx.network import FloatNetwork
from fewbit.importers.float_onnx.passes import flattened_channels_last, limits_before_maxima
from fewbit.importers.lowering.products import stores_scales
from fewbit.input_kind import InputKind
from fewbit.passes import flatten_channels_last
from fewbit.quantization.activation_range import Activation
from fewbit.quantization.calibration import SYNTHETIC_MARGIN, choose_activations, float_inputs, synthetic_inputs
from fewbit.quantization.output_criterion import output_criterion
from fewbit.quantization.points import points_of
from fewbit.quantization.recipe import Recipe
from fewbit.quantization.requantize import requantize, weights_of
from fewbit.quantization.to_integers import to_integers

CRITERION_FRAMES = 1000
"""Largest number of calibration frames that the search for bands uses."""

Progress = Callable[[str], object]
"""Called with the name of each step when it begins."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """The result of :func:`quantize`.

    Attributes
    ----------
    source : FloatNetwork or Network
        The network before quantization.
    network : Network
        The quantized integer network.
    weights : dict of str to Quantized
        Quantized weights of each layer, in order.
    activations : dict of int to Activation
        Quantizers of activations by the number of the tensor in ``source``, in order. Empty for an integer network,
        whose activations do not change.
    input : InputKind or None
        Integers from which a float input is computed; None for an integer network.
    recipes : dict of str to Recipe
        Recipe of each layer, in order.
    """

    source: FloatNetwork | Network
    network: Network
    weights: dict[str, Quantized]
    activations: Mapping[int, Activation] = field(default_factory=dict)
    input: InputKind | None = None
    recipes: dict[str, Recipe]

    def scale_bits(self, name: str) -> int:
        """Bits of a stored scale of layer ``name``; 0 if the scales are folded into thresholds."""
        return self.recipes[name].scale_bits if stores_scales(self.weights[name]) else 0

    def memory_bits(self, name: str) -> int:
        """Memory of layer ``name`` in bits: code words and stored scales (equation 12 of the multiplier paper)."""
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
    """Quantize the weights of ``source`` to few bits and, if it is a float network, also the activations.

    Parameters
    ----------
    source : FloatNetwork or Network
        A float network, or an integer network, whose activations stay as they are.
    recipe : Recipe
        How the weights of a layer are quantized.
    layers : mapping of str to Recipe, optional
        Recipes of single layers, by name, in place of ``recipe``.
    activations : int, optional
        Bits of the activations of a float network, 1 to 8; by default 8.
    input : str, optional
        Integers from which the input of a float network is computed; by default ``uint8/255``. See
        :meth:`fewbit.input_kind.InputKind.parse`.
    calibration : array (N, ...), optional
        Frames for a float network, as input integers or floats. They determine the activation ranges (by default,
        synthetic frames do) and guide the search for bands (by default, the squared error of the weights does).
    on_progress : callable (step), optional
        Called with the name of each step when it begins.

    Raises
    ------
    FewbitError
        If a layer is unknown, options are inconsistent, or a scale does not fit its width.
    """
    named = dict(layers or {})
    tell = on_progress or (lambda step: None)
    if isinstance(source, Network):
        for option, value in (("activations", activations), ("input", input), ("calibration", calibration)):
            if value is not None:
                raise FewbitError(f"{option} is for float networks: {source.name!r} is an integer network")
        source = flatten_channels_last(source)  # puts vectors in the order in which the hardware streams the inputs
        matrices = weights_of(source)
        recipes = _recipes(matrices, recipe, named)
        layer_weights = {}
        for name, matrix in matrices.items():
            tell(name)
            layer_weights[name] = _quantize_layer(name, matrix, recipes[name])
        network = requantize(source, layer_weights, _last(recipes).scale_bits)
        return Quantization(source=source, network=network, weights=layer_weights, recipes=recipes)
    bits = 8 if activations is None else activations
    if not 1 <= bits <= 8:
        raise FewbitError(f"activations must have 1 to 8 bits, not {bits}")
    kind = input_kind(input)
    source = flattened_channels_last(limits_before_maxima(source))
    recipes = _recipes({product.name: product.matrix for product in source.products}, recipe, named)
    if calibration is None:
        frames, margin = synthetic_inputs(kind, source.shape), SYNTHETIC_MARGIN
    else:
        frames, margin = float_inputs(source, kind, calibration), 1.0
        if not len(frames):
            raise FewbitError("calibration needs at least one frame")
    layer_weights, quantized = {}, source
    scores = None if calibration is None else source.run(frames[:CRITERION_FRAMES], stop=source.scores_at)
    for product in source.products:
        tell(product.name)
        layer_recipe, criterion = recipes[product.name], None
        if scores is not None and layer_recipe.rule != "nearest":
            criterion = output_criterion(quantized, product.name, frames[: len(scores)], scores)
        weights = _quantize_layer(product.name, product.matrix, layer_recipe, criterion)
        layer_weights[product.name] = weights
        quantized = quantized.with_products({product.name: product.with_matrix(weights.reals)})
    tell("activations")
    points = points_of(source, kind.dtype.bits, positive=not kind.dtype.signed)
    chosen = choose_activations(quantized, points, frames, kind, bits, margin)
    tell("thresholds")
    network = to_integers(source, layer_weights, chosen, points.narrowed, kind, _last(recipes).scale_bits)
    return Quantization(
        source=source, network=network, weights=layer_weights, activations=chosen, input=kind, recipes=recipes
    )


def input_kind(text: str | None) -> InputKind:
    """Parse the option ``--input``, the integers from which a float input is computed; None is ``uint8/255``."""
    return InputKind.parse("uint8/255" if text is None else text)


def _recipes(matrices: Mapping[str, Floats], recipe: Recipe, named: Mapping[str, Recipe]) -> dict[str, Recipe]:
    for name in named:
        if name not in matrices:
            raise FewbitError(f"there is no layer {name!r} with weights, only {', '.join(matrices)}")
    return {name: named.get(name, recipe) for name in matrices}


def _last(recipes: Mapping[str, Recipe]) -> Recipe:
    return list(recipes.values())[-1]


def _quantize_layer(name: str, matrix: Floats, recipe: Recipe, criterion: Criterion | None = None) -> Quantized:
    """Quantize the weights of a layer. Scales that the layer has to store are converted to fixed point."""
    try:
        weights = quantize_weights(
            np.asarray(matrix, np.float64),
            recipe.code,
            recipe.vectors,
            rule=recipe.rule,
            two_scales=recipe.two_scales,
            criterion=criterion,
        )
        return weights.in_fixed_point(recipe.scale_bits, recipe.scale_fraction) if stores_scales(weights) else weights
    except FewbitError as error:
        raise FewbitError(f"layer {name!r}: {error}") from None


def accuracy(network: FloatNetwork | Network, frames: Ints, labels: Ints, kind: InputKind | None = None) -> float:
    """Accuracy of ``network``: the share of ``frames``, 0 to 1, whose class equals that in ``labels``.

    Parameters
    ----------
    network : FloatNetwork or Network
    frames : array (N, ...)
        Frames, as integers or floats.
    labels : int array (N,)
        True classes.
    kind : InputKind, optional
        Integers from which the float input is computed. Required for a float network and for an integer network that
        was made from one.

    Raises
    ------
    FewbitError
        If frames or labels do not match the network.
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
