"""Hardware of each kind of layer: the unit that is built for a fold, the possible folds, and their costs."""
