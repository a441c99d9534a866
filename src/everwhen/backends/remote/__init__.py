"""A store over another process's server: the log protocol, spoken over HTTP."""
