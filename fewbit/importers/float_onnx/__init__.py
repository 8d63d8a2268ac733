"""Plain float ONNX networks, as PyTorch and Keras export them for inference: what the quantizer starts from."""
