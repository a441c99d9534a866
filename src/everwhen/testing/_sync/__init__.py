"""The testing kit's sync flavour, generated from ``everwhen._async_testing`` but for its seam."""
