"""The sync flavour, generated from ``projections._async``."""
