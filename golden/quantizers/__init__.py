"""Quantizers: from floating-point weights to levels of a code and scales. Only this folder of golden uses floats."""
