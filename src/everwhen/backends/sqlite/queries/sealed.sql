-- Sealed history: what is read of segments and chunks, and written by whoever seals.

-- name: border
SELECT max(last) FROM segments

-- name: at_border
SELECT
    EXISTS (SELECT 1 FROM chunks WHERE last = :border)
    OR EXISTS (SELECT 1 FROM archived WHERE last = :border)
    OR EXISTS (SELECT 1 FROM retired WHERE last = :border),
    EXISTS (SELECT 1 FROM chunks WHERE last > :border),
    (SELECT position - count FROM slices WHERE position > :border ORDER BY position LIMIT 1)

-- name: newest_segment
SELECT last, last_time FROM segments ORDER BY last DESC LIMIT 1

-- name: piece_of
SELECT last, dictionary, size FROM (
    SELECT last, dictionary, size FROM (
        SELECT last, dictionary, octet_length(data) AS size FROM chunks WHERE last >= ?
        ORDER BY last LIMIT 1
    )
    UNION ALL SELECT last, NULL, NULL FROM (
        SELECT last FROM archived WHERE last >= ? ORDER BY last LIMIT 1
    )
) ORDER BY last, dictionary DESC LIMIT 1

-- name: piece_at
-- a row group that is in chunks as well begins before the last of them
SELECT last, first_time FROM (
    SELECT last, first_time FROM (
        SELECT last, first_time FROM chunks WHERE last >= ? ORDER BY last LIMIT 1
    )
    UNION ALL SELECT last, first_time FROM (
        SELECT last, first_time FROM archived WHERE last >= ? ORDER BY last LIMIT 1
    )
) ORDER BY last, first_time DESC LIMIT 1

-- name: chunk_after
SELECT last FROM chunks WHERE last > ? ORDER BY last LIMIT 1

-- name: dictionary
SELECT data FROM dictionaries WHERE id = ?

-- name: newest_dictionary
SELECT id, data FROM dictionaries ORDER BY id DESC LIMIT 1

-- name: stream
SELECT version, position, recorded_at FROM sealed_streams WHERE stream = ?

-- name: commits
SELECT position FROM sealed_commits WHERE prefix = ? AND position <= ?

-- name: segments
SELECT
    segments.last, segments.first, slices, segments.first_time, segments.last_time, bytes,
    segments.sha256,
    EXISTS (SELECT 1 FROM chunks WHERE chunks.last = segments.last),
    objects.url, objects.name, objects.size, retired_at
FROM segments
LEFT JOIN archived ON archived.last = segments.last
LEFT JOIN objects ON objects.id = archived.object
LEFT JOIN retired ON retired.last = segments.last
ORDER BY segments.last

-- name: segment
SELECT last FROM segments WHERE last >= ? ORDER BY last LIMIT 1

-- name: rows_to_seal
SELECT position, stream, version, count, recorded_at, commit_id, first_index, metadata, body
FROM slices WHERE position > ? AND position <= ? ORDER BY position LIMIT ?

-- name: first_index_after
SELECT first_index FROM slices WHERE position > ? ORDER BY position LIMIT 1

-- name: chunks_between
SELECT count(*) FROM chunks WHERE last > ? AND last <= ?

-- name: mover
SELECT token FROM mover

-- name: oldest_row
SELECT min(position) FROM slices

-- name: end_of_deletion
SELECT position FROM slices WHERE position <= ? ORDER BY position LIMIT 1 OFFSET ?

-- name: terms_to_clear
SELECT term FROM postings WHERE segment = ? AND term > ? ORDER BY term LIMIT ?

-- name: unfinished_postings
SELECT segment, term FROM postings WHERE segment > ? LIMIT ?

-- name: take_over
INSERT OR REPLACE INTO mover VALUES (1, ?)

-- name: drop_unfinished_chunks
DELETE FROM chunks WHERE last > ?

-- name: drop_posting
DELETE FROM postings WHERE segment = ? AND term = ?

-- name: save_dictionary
INSERT INTO dictionaries VALUES (?, ?)

-- name: save_chunk
INSERT INTO chunks VALUES (?, ?, ?, ?)

-- name: save_posting
INSERT INTO postings VALUES (?, ?, ?, ?)

-- name: save_stream
INSERT OR REPLACE INTO sealed_streams VALUES (?, ?, ?, ?)

-- name: save_commit
INSERT OR IGNORE INTO sealed_commits VALUES (?, ?)

-- name: save_segment
INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: delete_slices
DELETE FROM slices WHERE position <= ?

-- name: delete_marks
DELETE FROM marks WHERE term = ? AND position <= ?
