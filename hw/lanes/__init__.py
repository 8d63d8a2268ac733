"""Lanes: what weights of one code do to activations, SIMD of them summed."""
