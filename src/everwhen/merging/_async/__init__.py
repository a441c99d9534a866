"""The async flavour, by hand; ``merging._sync`` is made of it."""
