-- Each subject's data keys, wrapped. A key-encryption key that is kept elsewhere unwraps them.
CREATE TABLE keys (
    subject TEXT NOT NULL, version INTEGER NOT NULL, key_id TEXT NOT NULL,
    wrapped BLOB NOT NULL, made_at INTEGER NOT NULL, PRIMARY KEY (subject, version)
) WITHOUT ROWID;

-- What is left of the keys of those who are forgotten; erasures are numbered from 1, without gaps.
CREATE TABLE stones (
    subject TEXT PRIMARY KEY, number INTEGER NOT NULL, erased_at INTEGER NOT NULL
) WITHOUT ROWID;
