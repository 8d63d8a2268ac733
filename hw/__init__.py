"""The hardware: Amaranth components, and how a network becomes a design."""
