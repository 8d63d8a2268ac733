"""Commands that print the tables quoted in the documentation, and what they measure with."""
