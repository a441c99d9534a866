"""The async flavour, by hand; ``branches._sync`` is made of it."""
