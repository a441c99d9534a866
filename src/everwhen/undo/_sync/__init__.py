"""The sync flavour, generated from ``undo._async``."""
