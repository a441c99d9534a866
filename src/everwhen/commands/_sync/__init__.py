"""The sync flavour, generated from ``commands._async``."""
