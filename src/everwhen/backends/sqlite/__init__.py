"""The embedded store: one SQLite file, written by many threads and processes.

`engine` is what a store uses. Below it: `writer`, `staging` and `transactions` write; `reader`,
`pages`, `query_plan` and `lookups` read; `views` is what work inside a transaction is given, and
`user_statements` runs SQL that users write, whose `dialect` is SQLite's. `connection`,
`lock_guard`, `schema` and `lifetime` are about the file being open, `structural_check`,
`index_check` and `schema_check` about it being sound, `backup` and `file_watch` about others. The
SQL is in ``queries/`` and ``migrations/``.
"""
