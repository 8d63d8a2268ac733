"""Prints the table of shipped networks: python -m benchmarks.models"""

from __future__ import annotations

from fewbit import arrays, engines, models
from fewbit.golden.network import Dense, Network
from fewbit.load import load

HEAD = ("network", "layers", "weights; activations", "weight bits", "accuracy, 10,000 test images")


def rows() -> list[tuple[str, ...]]:
    """Name, layers, number kinds, weight bits, and accuracy on all test images; one row a network."""
    images, labels = arrays.read(models.TEST_IMAGES), arrays.read(models.TEST_LABELS)
    found = []
    for name, path in models.shipped().items():
        network = load(path, input="uint8/255" if path.suffix == ".onnx" else None)
        frames = images.reshape(-1, *network.input.shape)
        accuracy = engines.run(network, frames).accuracy(labels)
        found.append(
            (
                f"`{name}`",
                _sizes(network),
                _kinds(network),
                _bits(network),
                f"{100 * accuracy:.2f} %",
            )
        )
    return found


def _dense(network: Network) -> list[tuple[Dense, str]]:
    return [
        (layer, str(source.dtype)) for layer, source in zip(network.layers, network.types) if isinstance(layer, Dense)
    ]


def _sizes(network: Network) -> str:
    layers = [layer for layer, _ in _dense(network)]
    return "-".join(str(size) for size in (layers[0].inputs, *(layer.outputs for layer in layers)))


def _kinds(network: Network) -> str:
    codes = sorted({str(layer.code) for layer, _ in _dense(network)})
    kinds = list(dict.fromkeys(kind for _, kind in _dense(network)))
    return f"{', '.join(codes)}; {', '.join(kinds)}"


def _bits(network: Network) -> str:
    return f"{sum(layer.weights.size * layer.code.bits for layer, _ in _dense(network)):,}"


def main() -> None:
    print(markdown(HEAD, rows()))


def markdown(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
