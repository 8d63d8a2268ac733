"""Commands that measure designs and print the tables in the documentation."""
