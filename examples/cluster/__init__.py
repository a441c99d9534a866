"""A casino on three machines, all of them this laptop: ``python -m cluster``."""
