"""Units of layers other than matrix-vector products, and the windows in front of those."""
