"""The sync flavour, generated from ``partitions._async``."""
