-- What the checks of a file read, one statement under each name. Names are read as they are
-- stored, as bytes: a damaged one may be no text.

-- name: slices
SELECT slices.position, CAST(streams.name AS BLOB), slices.version, slices.count,
    slices.recorded_at, slices.commit_id, slices.first_index, slices.metadata, slices.body
FROM slices LEFT JOIN streams ON streams.id = slices.stream
WHERE slices.position > ? ORDER BY slices.position

-- name: stream_gaps
-- with the first slice of each stream that has sealed ones, for it follows on those
SELECT stream, CAST(name AS BLOB), version, start, before
FROM (
    SELECT stream, version, version - count AS start,
        lag(version, 1) OVER (PARTITION BY stream ORDER BY version) AS before
    FROM slices WHERE position > ?
)
JOIN streams ON streams.id = stream
WHERE start <> coalesce(before, 0) OR before IS NULL AND stream IN (
    SELECT stream FROM sealed_streams
)

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
SELECT 1 FROM (SELECT ? AS id)
WHERE EXISTS (SELECT 1 FROM slices WHERE stream = id)
    OR EXISTS (SELECT 1 FROM sealed_streams WHERE stream = id)

-- name: terms
SELECT id, kind, CAST(name AS BLOB) FROM terms NOT INDEXED

-- name: has_marks
SELECT 1 FROM marks WHERE term = ? LIMIT 1

-- name: mark
SELECT 1 FROM marks WHERE term = ? AND position = ?

-- name: count_of_marks
SELECT count(*) FROM marks WHERE position > ?

-- name: count_of_marks_at
SELECT count(*) FROM marks WHERE position = ?

-- name: postings
SELECT term, version, places FROM postings WHERE segment = ?

-- name: chunk_bytes
SELECT coalesce(sum(octet_length(data)), 0) FROM chunks WHERE last > ? AND last <= ?

-- name: left_over
SELECT position, stream, version, count, recorded_at, commit_id, first_index, metadata, body
FROM slices WHERE position <= ? ORDER BY position

-- name: piece_times
SELECT last, max(of_chunk), max(of_group) FROM (
    SELECT last, first_time AS of_chunk, NULL AS of_group FROM chunks
    WHERE last > :after AND last <= :last
    UNION ALL SELECT last, NULL, first_time FROM archived WHERE last > :after AND last <= :last
) GROUP BY last ORDER BY last

-- name: sealed_commit
SELECT 1 FROM sealed_commits WHERE prefix = ? AND position = ?

-- name: count_of_commits
SELECT count(*) FROM sealed_commits WHERE position > ? AND position <= ?

-- name: retired_streams
SELECT stream, version, position, recorded_at FROM sealed_streams WHERE position <= ?

-- name: sealed_streams
SELECT stream, version, position, recorded_at FROM sealed_streams

-- name: sealed_stream
SELECT 1 FROM sealed_streams WHERE stream = ?

-- name: slice_of_stream
SELECT version, position, recorded_at FROM slices WHERE stream = ? AND version = ?

-- name: name_of_stream
SELECT CAST(name AS BLOB) FROM streams WHERE id = ?

-- name: term_name
SELECT name FROM terms WHERE id = ?

-- name: schema
SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid
