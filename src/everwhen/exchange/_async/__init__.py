"""The async flavour, by hand; ``exchange._sync`` is made of it."""
