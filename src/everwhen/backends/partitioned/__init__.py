"""A store in several SQLite files, read as one."""
