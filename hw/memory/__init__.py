"""Memories for weights, and buffers for vectors."""
