"""The command line. Everything it does is one call of the Python API."""
