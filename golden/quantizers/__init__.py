"""Weights in floating point to levels of a code and scales. The one room of golden that knows floats."""
