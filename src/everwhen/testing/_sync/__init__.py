"""The testing kit's sync flavour, generated from ``everwhen.testing._async`` but for ``concurrency.py``."""
