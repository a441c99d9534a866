"""The sync flavour, generated from ``merkle._async``."""
