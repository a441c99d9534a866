-- What the checks of a file read, one statement under each name. Names are read as they are
-- stored, as bytes: a damaged one may be no text.

-- name: slices
SELECT slices.position, CAST(streams.name AS BLOB), slices.version, slices.count,
    slices.recorded_at, slices.commit_id, slices.first_index, slices.metadata, slices.body
FROM slices LEFT JOIN streams ON streams.id = slices.stream ORDER BY slices.position

-- name: stream_gaps
SELECT CAST(name AS BLOB), version, before
FROM (
    SELECT stream, version, version - count AS start,
        lag(version, 1, 0) OVER (PARTITION BY stream ORDER BY version) AS before
    FROM slices
)
JOIN streams ON streams.id = stream WHERE start <> before

-- name: bodies
SELECT position, stream, CAST(streams.name AS BLOB), body
FROM slices LEFT JOIN streams ON streams.id = slices.stream
WHERE position > ? AND length(body) <= ? ORDER BY position

-- name: unreachable_positions
SELECT position FROM slices WHERE position < 1

-- name: streams
-- not by an index: a row that it misses is what is looked for
SELECT id, CAST(name AS BLOB) FROM streams NOT INDEXED ORDER BY id

-- name: has_slices
SELECT 1 FROM slices WHERE stream = ? LIMIT 1

-- name: terms
SELECT id, kind, CAST(name AS BLOB) FROM terms NOT INDEXED

-- name: has_marks
SELECT 1 FROM marks WHERE term = ? LIMIT 1

-- name: mark
SELECT 1 FROM marks WHERE term = ? AND position = ?

-- name: count_of_marks
SELECT count(*) FROM marks

-- name: schema
SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid
