"""The sync flavour, generated from ``store._async``."""
