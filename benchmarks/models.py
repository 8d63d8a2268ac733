"""Prints the table of shipped networks: python -m benchmarks.models"""

from __future__ import annotations

from fewbit import models
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Linear, Network, Pool
from fewbit.readers import load

HEAD = (
    "network", "layers", "weights; activations", "weight bits", "multiplications", "accuracy, 10,000 test images"
)  # fmt: skip


def shipped(name: str) -> Network:
    """The network that comes with fewbit under this name, a QONNX file with pixels divided by 255.

    Raises FewbitError where there is none.
    """
    path = models.shipped().get(name)
    if path is None:
        raise FewbitError(f"there is no network {name!r}, only {', '.join(models.shipped())}")
    return load(path, input="uint8/255" if path.suffix == ".onnx" else None)


def rows() -> list[tuple[str, ...]]:
    """Name, layers, number kinds, weight bits, products a frame, and the accuracy on record; one row a network.

    ``tests/test_models.py`` measures the accuracy anew.
    """
    found = []
    for name in models.shipped():
        network = shipped(name)
        found.append(
            (
                f"`{name}`",
                _sizes(network),
                _kinds(network),
                f"{sum(layer.weights.size * layer.code.bits for layer, _, _ in _linear(network)):,}",
                f"{sum(layer.weights.size * positions for layer, _, positions in _linear(network)):,}",
                f"{models.facts(name)['test_accuracy']:.2f} %",
            )
        )
    return found


def _linear(network: Network) -> list[tuple[Linear, str, int]]:
    """Layers with weights, the kind that each takes, and the positions at which each works."""
    return [
        (layer, str(network.source(layer).dtype), network.types[layer.name].size // layer.outputs)
        for layer in network.layers
        if isinstance(layer, Linear)
    ]


def _sizes(network: Network) -> str:
    """Inputs and outputs; of a convolution its filters, kernel and stride, of a pooling its kernel."""
    first = _linear(network)[0][0]
    found = ["×".join(map(str, network.input.shape)) if isinstance(first, Conv) else str(first.fan_in)]
    for layer in network.layers:
        if isinstance(layer, Conv):
            found.append(f"{layer.outputs}c{layer.kernel[0]}" + (f"s{layer.stride[0]}" if layer.stride[0] > 1 else ""))
        elif isinstance(layer, Pool):
            found.append(f"p{layer.kernel[0]}")
        elif isinstance(layer, Linear):
            found.append(str(layer.outputs))
    return "-".join(found)


def _kinds(network: Network) -> str:
    codes = sorted({str(layer.code) for layer, _, _ in _linear(network)})
    kinds = list(dict.fromkeys(kind for _, kind, _ in _linear(network)))
    return f"{', '.join(codes)}; {', '.join(kinds)}"


def main() -> None:
    print(markdown(HEAD, rows()))


def markdown(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
