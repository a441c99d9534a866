"""The async flavour, by hand; ``backends._sync`` is made of it, `concurrency` apart."""
