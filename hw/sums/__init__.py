"""Sums of many terms: popcounts, and adder trees with gated and inverted operands."""
