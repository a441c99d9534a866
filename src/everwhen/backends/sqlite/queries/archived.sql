-- Archived history: which objects there are, and which row groups are in them.

-- name: place
SELECT archived.row_group, archived.sha256, objects.url, objects.name, objects.size
FROM archived JOIN objects ON objects.id = archived.object WHERE archived.last = ?

-- name: ends_of_groups
SELECT last FROM archived WHERE last > ? AND last <= ? ORDER BY last

-- name: ends_of_chunks
SELECT last FROM chunks WHERE last > ? AND last <= ?

-- name: chunk
SELECT 1 FROM chunks WHERE last = ?

-- name: unused_objects
SELECT url, name FROM objects WHERE unused_since <= ? ORDER BY id

-- name: announce_object
INSERT INTO objects (url, name, size, unused_since) VALUES (?, ?, ?, ?)

-- name: use_object
UPDATE objects SET unused_since = NULL WHERE url = ? AND name = ? RETURNING id

-- name: forget_object
DELETE FROM objects WHERE url = ? AND name = ? AND unused_since IS NOT NULL

-- name: save_group
INSERT INTO archived VALUES (?, ?, ?, ?, ?)

-- name: move_group
UPDATE archived SET object = ?, row_group = ? WHERE last = ?

-- name: drop_groups
DELETE FROM archived WHERE last > ? AND last <= ?

-- name: measure_segment
UPDATE segments SET bytes = (
    SELECT sum(octet_length(data)) FROM chunks WHERE last > ? AND last <= ?
) WHERE last = ?

-- name: disuse_objects
UPDATE objects SET unused_since = ?
WHERE unused_since IS NULL AND id NOT IN (SELECT object FROM archived)

-- name: drop_chunks
DELETE FROM chunks WHERE last > ? AND last <= ?
