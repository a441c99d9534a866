"""The async flavour, by hand; ``audit._sync`` is made of it."""
