"""BitCraps, a craps casino: the reference application of Everwhen.

Read it in this order: `dice` and `bets` are the game itself and know nothing of events; `events`
and `commands` are its language; `accounts`, `game`, `betting` and `dealing` decide; `ledger`,
`projections`, `players` and `audit` look back.

All of this is pure: no store, no clock, no randomness. Amounts of money are whole units.
"""
