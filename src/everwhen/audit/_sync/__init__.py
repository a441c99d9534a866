"""The sync flavour, generated from ``audit._async``."""
