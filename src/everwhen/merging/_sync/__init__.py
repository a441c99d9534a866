"""The sync flavour, generated from ``merging._async``."""
