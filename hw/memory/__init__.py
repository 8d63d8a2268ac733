"""Where weights and vectors lie."""
