"""The sync flavour, generated from ``travel._async``."""
