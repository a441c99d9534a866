"""The engines below a store: alternatives that never import each other."""
