"""The embedded store: one SQLite file, written by many threads and processes."""
