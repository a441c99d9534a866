"""The sync flavour, generated from ``tiers._async``."""
