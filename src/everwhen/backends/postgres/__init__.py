"""PostgreSQL: a log is a schema in somebody's database, shared by any number of hosts."""
