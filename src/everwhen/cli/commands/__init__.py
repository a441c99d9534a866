"""The commands: a module for each, with a function ``register`` that adds it to the program."""
