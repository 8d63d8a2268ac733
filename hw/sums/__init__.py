"""Sums of many terms: popcounts, and trees of gated and inverted activations."""
