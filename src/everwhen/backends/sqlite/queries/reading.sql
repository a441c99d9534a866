-- What is read of a file, one statement under each name. Those that the plan of a page composes
-- are in query_plan.py. The file's indexes answer each of them: none walks a whole table, but for
-- the checkpoints, which are few.

-- name: ends
SELECT
    (SELECT max(position) FROM slices), (SELECT max(last) FROM segments),
    (SELECT max(last) FROM retired)

-- name: newest_slice
SELECT position, recorded_at, (SELECT max(last) FROM segments)
FROM slices ORDER BY position DESC LIMIT 1

-- name: end_of_slice
SELECT min(position) FROM slices WHERE position >= ?

-- name: slice_at
SELECT position, count, recorded_at FROM slices WHERE position >= ? ORDER BY position LIMIT 1

-- name: start_of_commit
SELECT position FROM slices WHERE commit_id = ? AND first_index = 0

-- name: stream_id
SELECT id FROM streams WHERE name = ?

-- name: stream_name
SELECT name FROM streams WHERE id = ?

-- name: stream_names
SELECT id, name FROM streams WHERE id >= ? AND id <= ?

-- name: stream_end
SELECT version, position FROM slices WHERE stream = ? ORDER BY version DESC LIMIT 1

-- name: stream_slice_at
SELECT version, position FROM slices WHERE stream = ? AND version >= ? ORDER BY version LIMIT 1

-- name: stream
SELECT name, version, position, recorded_at
FROM (SELECT id, name FROM streams WHERE name = ?) AS stream
JOIN slices ON slices.stream = stream.id
    AND slices.version = (SELECT max(version) FROM slices WHERE stream = stream.id)
    AND slices.position > coalesce((SELECT max(last) FROM segments), 0)

-- name: sealed_stream
SELECT name, version, position, recorded_at
FROM streams JOIN sealed_streams ON sealed_streams.stream = streams.id WHERE name = ?

-- name: streams
SELECT name,
    coalesce(slices.version, sealed.version) AS version,
    coalesce(slices.position, sealed.position),
    coalesce(slices.recorded_at, sealed.recorded_at)
FROM (SELECT id, name FROM streams WHERE name > ? ORDER BY name LIMIT ?) AS stream
LEFT JOIN slices ON slices.stream = stream.id
    AND slices.version = (SELECT max(version) FROM slices WHERE stream = stream.id)
    AND slices.position > coalesce((SELECT max(last) FROM segments), 0)
LEFT JOIN sealed_streams AS sealed ON sealed.stream = stream.id
WHERE coalesce(slices.version, sealed.version) IS NOT NULL
ORDER BY name

-- name: streams_of_category
SELECT name,
    coalesce(slices.version, sealed.version) AS version,
    coalesce(slices.position, sealed.position),
    coalesce(slices.recorded_at, sealed.recorded_at)
FROM (
    SELECT id, name FROM streams
    WHERE name > ? AND (name = ? OR (name >= ? AND name < ?)) ORDER BY name LIMIT ?
) AS stream
LEFT JOIN slices ON slices.stream = stream.id
    AND slices.version = (SELECT max(version) FROM slices WHERE stream = stream.id)
    AND slices.position > coalesce((SELECT max(last) FROM segments), 0)
LEFT JOIN sealed_streams AS sealed ON sealed.stream = stream.id
WHERE coalesce(slices.version, sealed.version) IS NOT NULL
ORDER BY name

-- name: term_id
SELECT id FROM terms WHERE kind = ? AND name = ?

-- name: checkpoint
SELECT name, position, data FROM checkpoints WHERE name = ?

-- name: checkpoints
SELECT name, position, data FROM checkpoints ORDER BY name

-- name: checkpoints_of_prefix
SELECT name, position, data FROM checkpoints WHERE substr(name, 1, ?) = ? ORDER BY name

-- name: snapshots
SELECT subject, position, fold, fold_version, state FROM snapshots
WHERE subject = ? AND position <= ? AND octet_length(state) <= ? ORDER BY position DESC LIMIT ?

-- name: snapshots_after
SELECT subject, position, fold, fold_version FROM snapshots
WHERE (subject, position) > (?, ?) ORDER BY subject, position LIMIT ?
