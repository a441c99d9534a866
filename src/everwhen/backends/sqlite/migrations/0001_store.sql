-- A slice is one stream's events of one commit, all of them in one row. It is keyed by the
-- position of its last event, so "what comes after position p" is a seek and a walk; and since
-- recorded_at never decreases along positions, a moment is found by bisection, without an index.
CREATE TABLE slices (
    position    INTEGER PRIMARY KEY,
    stream      INTEGER NOT NULL REFERENCES streams (id),
    version     INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    commit_id   BLOB    NOT NULL,
    first_index INTEGER NOT NULL,
    metadata    BLOB,
    body        BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX slices_by_stream ON slices (stream, version);
CREATE UNIQUE INDEX slices_by_commit ON slices (commit_id) WHERE first_index = 0;

CREATE TABLE streams (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What queries look for beside streams: kind 1 is a tag, 2 an event type, 3 a category.
CREATE TABLE terms (
    id   INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    name TEXT    NOT NULL,
    UNIQUE (kind, name)
) STRICT;

-- Where a term occurs: a tag at the slice's position; a type or category, which are less
-- selective, only at the last position of its block of 256, which costs next to nothing.
CREATE TABLE marks (
    term     INTEGER NOT NULL REFERENCES terms (id),
    position INTEGER NOT NULL,
    PRIMARY KEY (term, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    name     TEXT    PRIMARY KEY,
    position INTEGER NOT NULL,
    data     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    subject      TEXT    NOT NULL,
    position     INTEGER NOT NULL,
    fold         TEXT    NOT NULL,
    fold_version INTEGER NOT NULL,
    state        BLOB    NOT NULL,
    PRIMARY KEY (subject, position)
) STRICT, WITHOUT ROWID;

-- For people and tools that speak SQL: one row per event. data, tags and metadata are JSON.
CREATE VIEW events AS
SELECT
    slices.position - slices.count + 1 + entry.key           AS position,
    streams.name                                             AS stream,
    slices.version - slices.count + 1 + entry.key            AS version,
    entry.value ->> 0                                        AS type,
    entry.value ->> 1                                        AS schema_version,
    entry.value -> 2                                         AS data,
    coalesce(entry.value -> 3, '[]')                         AS tags,
    strftime('%Y-%m-%dT%H:%M:%S', floor(slices.recorded_at / 1e6), 'unixepoch')
        || printf('.%06dZ', (slices.recorded_at % 1000000 + 1000000) % 1000000) AS recorded_at,
    entry.value ->> '$[4].occurred_at'                       AS occurred_at,
    lower(hex(slices.commit_id))                             AS commit_id,
    CAST(slices.metadata AS TEXT)                            AS metadata,
    entry.value ->> '$[4].id'                                AS event_id,
    entry.value -> '$[4].extras'                             AS extras
FROM slices
JOIN streams ON streams.id = slices.stream,
json_each(CAST(slices.body AS TEXT)) AS entry;
