"""The async flavour, by hand; ``merkle._sync`` is made of it."""
