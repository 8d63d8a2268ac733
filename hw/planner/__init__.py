"""What parts cost, how a layer can be folded, and which folds fit a device."""
