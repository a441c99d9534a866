-- Sealed slices may be in Parquet objects outside of this file, in place of its chunks or beside
-- them. An object that isn't used (it was never finished, or others took its place) has the time,
-- in microseconds, since when: it is deleted a day later.
CREATE TABLE objects (
    id           INTEGER PRIMARY KEY,
    url          TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    size         INTEGER NOT NULL,
    unused_since INTEGER,
    UNIQUE (url, name)
) STRICT;

-- A row group of an object, keyed by the position of its last event, as a chunk is. Where there is
-- a chunk with the same key, the group's slices are in chunks as well, and read from them.
CREATE TABLE archived (
    last       INTEGER PRIMARY KEY,
    first_time INTEGER NOT NULL,
    object     INTEGER NOT NULL,
    row_group  INTEGER NOT NULL,
    sha256     BLOB    NOT NULL
) STRICT;

-- Segments whose slices were given up, by the position of the event that says so, and when.
CREATE TABLE retired (
    last       INTEGER PRIMARY KEY,
    recorded   INTEGER NOT NULL,
    retired_at INTEGER NOT NULL
) STRICT;
