"""From trained networks to networks with few-bit weights."""
