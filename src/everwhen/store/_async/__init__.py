"""The async flavour, by hand; ``store._sync`` is made of it."""
