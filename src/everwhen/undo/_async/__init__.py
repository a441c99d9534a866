"""The async flavour, by hand; ``undo._sync`` is made of it."""
