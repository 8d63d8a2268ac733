"""Reads quantized TensorFlow Lite models: the integers of the reference kernels, rounding included."""
