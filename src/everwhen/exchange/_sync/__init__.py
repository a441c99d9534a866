"""The sync flavour, generated from ``exchange._async``."""
