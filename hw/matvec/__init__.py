"""Folded matrix-vector units: they compute PE outputs from SIMD inputs at a time."""
