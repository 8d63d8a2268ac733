"""Plain float ONNX networks, as PyTorch and Keras export them for inference: the input of the quantizer."""
