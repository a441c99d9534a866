"""The async flavour, by hand; ``commands._sync`` is made of it."""
