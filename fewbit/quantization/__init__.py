"""Quantizes trained networks to few-bit weights."""
