"""The async flavour, by hand; ``reactions._sync`` is made of it."""
