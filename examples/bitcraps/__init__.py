"""BitCraps, a craps casino: the reference application of Everwhen.

    PYTHONPATH=examples python -m bitcraps night.db

Read it in this order: `dice` and `bets` are the game itself and know nothing of events; `events`
and `commands` are its language; `accounts`, `game`, `betting` and `dealing` decide; `ledger`,
`projections`, `players` and `audit` look back. All of these are pure: no store, no clock, no
randomness. Amounts of money are whole units.

Then it runs: `casino` wires decisions, read models and a reaction to a store; `standings` keeps a
table in SQL, `questions` asks, and `surveillance` writes down who did what. `habits` and `people`
are who plays, a `table` plays hand after hand, a `night` has many tables. `inspection` believes
nothing, `live` and `summary` show it, and `travel` goes back in time.

And nobody has to trust it: `places` says where the keys are and the signed log, `proving` proves a
roll to anybody, `forgetting` erases a player, and `paperwork` shows both. When a night is over,
`retention` seals its history, and shows that no answer is another for it.
"""
