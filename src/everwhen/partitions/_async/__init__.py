"""The async flavour, by hand; ``partitions._sync`` is made of it."""
