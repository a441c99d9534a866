"""The async flavour, by hand; ``projections._sync`` is made of it."""
