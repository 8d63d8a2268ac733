"""QONNX networks, dense and convolutional, to networks in integers."""
