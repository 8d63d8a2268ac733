"""Cost estimates that depend on more than one component: on a layer, its fold and a device."""
