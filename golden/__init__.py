"""The ground: what the numbers are. NumPy, integers only, nothing of hardware."""
