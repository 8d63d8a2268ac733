"""Kinds of layers in hardware: how a fold becomes a unit, which folds there are, and what they cost."""
