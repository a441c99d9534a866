"""The sync flavour, generated from ``backends._async``, `concurrency` apart."""
