"""Folded matrix-vector units: PE outputs by SIMD inputs at a time."""
