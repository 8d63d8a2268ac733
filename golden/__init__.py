"""The reference model: what every number of a network is. NumPy and integers only, independent of the hardware."""
