"""Lanes: each multiplies one activation by one weight of a given code, and SIMD of them are summed."""
