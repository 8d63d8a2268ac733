"""The planner: chooses a fold for each layer so that the network fits a device and is as fast as possible."""
