"""Builds networks in integers: shared by every reader and by the quantizer."""
