"""Commands that print the tables quoted in the documentation."""
