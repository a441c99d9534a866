"""The sync flavour, generated from ``everwhen._async``; only ``seam.py`` is written by hand."""
