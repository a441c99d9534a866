"""The async flavour, by hand; ``travel._sync`` is made of it."""
