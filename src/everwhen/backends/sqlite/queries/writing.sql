-- What is written to a file, and read in order to write, one statement under each name. The rows
-- of commits are inserted by staging.py, many with one statement.

-- name: stream_to_write
SELECT id, coalesce(
    (SELECT max(version) FROM slices WHERE stream = streams.id),
    (SELECT version FROM sealed_streams WHERE stream = streams.id)
) FROM streams WHERE name = ?

-- name: newest_stream_id
SELECT max(id) FROM streams

-- name: newest_term_id
SELECT max(id) FROM terms

-- name: save_checkpoint
INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)

-- name: delete_checkpoint
DELETE FROM checkpoints WHERE name = ?

-- name: save_snapshot
INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)

-- name: delete_snapshot
DELETE FROM snapshots WHERE subject = ? AND position = ?

-- name: delete_snapshots_of_subject
DELETE FROM snapshots WHERE subject = ?

-- name: delete_all_snapshots
DELETE FROM snapshots

-- name: delete_sealed_slices
DELETE FROM slices WHERE position <= (SELECT max(last) FROM segments)
