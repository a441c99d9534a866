"""The sync flavour, generated from ``branches._async``."""
