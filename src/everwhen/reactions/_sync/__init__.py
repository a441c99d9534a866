"""The sync flavour, generated from ``reactions._async``."""
