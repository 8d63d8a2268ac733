"""Networks in integers under construction: what every importer builds with."""
