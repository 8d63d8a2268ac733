"""What parts cost, where that needs more than the part itself: a layer, its fold, a device."""
