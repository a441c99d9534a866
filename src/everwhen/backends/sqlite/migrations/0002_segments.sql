-- Old slices are sealed: packed and compressed in chunks, of which a segment has many. A segment
-- is keyed by the position of its last event, as a slice is, and a chunk likewise. One border
-- decides where a slice is: up to the last segment's end it is in a chunk; rows of slices there
-- that remain are not yet deleted, and mean nothing.
CREATE TABLE segments (
    last       INTEGER PRIMARY KEY,
    first      INTEGER NOT NULL,
    slices     INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time  INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     BLOB    NOT NULL
) STRICT;

-- Chunks after the border are those of a segment that is being made, or wasn't finished.
CREATE TABLE chunks (
    last       INTEGER PRIMARY KEY,
    first_time INTEGER NOT NULL,
    dictionary INTEGER NOT NULL,
    data       BLOB    NOT NULL
) STRICT;

CREATE TABLE dictionaries (
    id   INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

-- Where a term, or a stream (by its negative id), occurs in a segment. places are little-endian
-- numbers: the slice's position less the segment's first; for types and categories its block of
-- 256, counted from the segment's first one. version is a stream's at the segment's end.
CREATE TABLE postings (
    segment INTEGER NOT NULL,
    term    INTEGER NOT NULL,
    version INTEGER NOT NULL,
    places  BLOB    NOT NULL,
    PRIMARY KEY (segment, term)
) STRICT, WITHOUT ROWID;

-- Each stream's newest slice that was sealed, or is about to be.
CREATE TABLE sealed_streams (
    stream      INTEGER PRIMARY KEY,
    version     INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;

-- The first slice of sealed commits, by the first 8 bytes of their ids. A commit whose id is a
-- UUIDv7 of the time at which it was recorded isn't listed: its time leads to it.
CREATE TABLE sealed_commits (
    prefix   INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (prefix, position)
) STRICT, WITHOUT ROWID;

-- Who moves history at present. Whoever begins to move takes it over, and stops who did before.
CREATE TABLE mover (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    token BLOB    NOT NULL
) STRICT;
