# Made from tools/front_door.toml: edit that, then `make sync`.
"""The system below: files, locks, forks and HTTP, each handled with care once."""
