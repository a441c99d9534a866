"""The async flavour, by hand; ``tiers._sync`` is made of it."""
