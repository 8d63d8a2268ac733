"""Quantized ONNX networks as onnxruntime writes them: QuantizeLinear and DequantizeLinear, or operators on integers."""
