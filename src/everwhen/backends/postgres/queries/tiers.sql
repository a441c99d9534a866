-- Sealed, archived and retired history: what is read of it, and written by whoever moves it.

-- name: pieces
-- The chunks and row groups that positions are in. A row group that is in chunks as well begins
-- before the last of them.
SELECT DISTINCT ON (piece.last) piece.last, piece.is_cold, chunks.dictionary, chunks.data
FROM unnest(%s::bigint[]) AS asked (position)
CROSS JOIN LATERAL (
    SELECT last, is_cold FROM (
        (SELECT last, true AS is_cold FROM log.chunks WHERE last >= asked.position
        ORDER BY last LIMIT 1)
        UNION ALL
        (SELECT last, false FROM log.archived WHERE last >= asked.position ORDER BY last LIMIT 1)
    ) AS either ORDER BY last, is_cold DESC LIMIT 1
) AS piece
LEFT JOIN log.chunks ON chunks.last = piece.last
ORDER BY piece.last

-- name: dictionary
SELECT data FROM log.dictionaries WHERE id = %s

-- name: retired
SELECT last, retired_at FROM log.retired ORDER BY last DESC LIMIT 1

-- name: retired_until
SELECT max(segments.last_time) FROM log.segments JOIN log.retired USING (last)

-- name: retired_version
SELECT coalesce(
    (SELECT version - count FROM log.slices WHERE stream = id
    AND version >= log.first_version(id, %(last)s) AND position > %(last)s
    ORDER BY version LIMIT 1),
    (SELECT version FROM log.slices WHERE stream = id ORDER BY version DESC LIMIT 1)
) FROM log.streams WHERE name = %(name)s

-- name: retired_commit
SELECT 1 FROM log.retired_commits WHERE commit_id = %s

-- name: border
SELECT coalesce(max(last), 0) FROM log.segments

-- name: segments
SELECT
    segments.last, segments.first, slices, segments.first_time, segments.last_time, bytes,
    segments.sha256,
    EXISTS (SELECT FROM log.chunks WHERE chunks.last = segments.last),
    objects.url, objects.name, objects.size, retired_at
FROM log.segments
LEFT JOIN log.archived ON archived.last = segments.last
LEFT JOIN log.objects ON objects.id = archived.object
LEFT JOIN log.retired ON retired.last = segments.last
ORDER BY segments.last

-- name: take_over
UPDATE log.mover SET token = %s

-- name: turn
SELECT token FROM log.mover FOR UPDATE

-- name: progress
SELECT emptied, deleted, unmarked FROM log.mover

-- name: first_index_after
SELECT first_index FROM log.slices WHERE position > %s ORDER BY position LIMIT 1

-- name: stream_names
SELECT id, name FROM log.streams WHERE id = ANY(%s)

-- name: stream_ids
SELECT name, id FROM log.streams WHERE name = ANY(%s)

-- name: newest_dictionary
SELECT id, data FROM log.dictionaries ORDER BY id DESC LIMIT 1

-- name: is_chunk_after
SELECT EXISTS (SELECT FROM log.chunks WHERE last > %s)

-- name: drop_chunks
DELETE FROM log.chunks WHERE last > %s AND last <= %s

-- name: save_dictionary
INSERT INTO log.dictionaries VALUES (%s, %s) ON CONFLICT DO NOTHING

-- name: save_chunk
INSERT INTO log.chunks VALUES (%s, %s, %s, %s)

-- name: chunks_between
SELECT count(*) FROM log.chunks WHERE last > %s AND last <= %s

-- name: save_segment
INSERT INTO log.segments VALUES (%s, %s, %s, %s, %s, %s, %s)

-- name: end_of_step
SELECT position FROM log.slices WHERE position > %s AND position <= %s
ORDER BY position LIMIT 1 OFFSET %s

-- name: empty_rows
UPDATE log.slices SET body = '', metadata = NULL WHERE position > %s AND position <= %s

-- name: note_emptied
UPDATE log.mover SET emptied = %s

-- name: place
SELECT archived.row_group, archived.sha256, objects.url, objects.name, objects.size
FROM log.archived JOIN log.objects ON objects.id = archived.object WHERE archived.last = %s

-- name: ends_of_groups
SELECT last FROM log.archived WHERE last > %s AND last <= %s ORDER BY last

-- name: ends_of_chunks
SELECT last FROM log.chunks WHERE last > %s AND last <= %s ORDER BY last

-- name: chunk
SELECT 1 FROM log.chunks WHERE last = %s

-- name: unused_objects
SELECT url, name FROM log.objects WHERE unused_since <= %s ORDER BY id

-- name: announce_object
INSERT INTO log.objects (url, name, size, unused_since) VALUES (%s, %s, %s, %s)

-- name: use_object
UPDATE log.objects SET unused_since = NULL WHERE url = %s AND name = %s RETURNING id

-- name: forget_object
DELETE FROM log.objects WHERE url = %s AND name = %s AND unused_since IS NOT NULL

-- name: save_group
INSERT INTO log.archived VALUES (%s, %s, %s, %s, %s)

-- name: move_group
UPDATE log.archived SET object = %s, row_group = %s WHERE last = %s

-- name: drop_groups
DELETE FROM log.archived WHERE last > %s AND last <= %s

-- name: measure_segment
UPDATE log.segments SET bytes = (
    SELECT sum(octet_length(data)) FROM log.chunks WHERE last > %s AND last <= %s
) WHERE last = %s

-- name: disuse_objects
UPDATE log.objects SET unused_since = %s
WHERE unused_since IS NULL AND id NOT IN (SELECT object FROM log.archived)

-- name: retire
INSERT INTO log.retired SELECT last, %s, %s FROM log.segments
WHERE last <= %s AND last > (SELECT coalesce(max(last), 0) FROM log.retired)

-- name: last_chunk
SELECT max(last) FROM (
    SELECT last FROM log.chunks WHERE last <= %s ORDER BY last LIMIT %s
) AS oldest

-- name: last_group
SELECT max(last) FROM (
    SELECT last FROM log.archived WHERE last <= %s ORDER BY last LIMIT %s
) AS oldest

-- name: retired_ids
SELECT commit_id, recorded_at FROM log.slices
WHERE position > %s AND position <= %s AND first_index = 0

-- name: keep_commit
INSERT INTO log.retired_commits VALUES (%s) ON CONFLICT DO NOTHING

-- name: delete_rows
DELETE FROM log.slices WHERE position > %s AND position <= %s AND EXISTS (
    SELECT FROM log.slices AS newer WHERE newer.stream = slices.stream
    AND newer.version > slices.version
)

-- name: note_deleted
UPDATE log.mover SET deleted = %s

-- name: terms
WITH RECURSIVE found (term, number) AS (
    (SELECT term, 1 FROM log.marks WHERE term > %(after)s ORDER BY term LIMIT 1)
    UNION ALL
    SELECT (SELECT marks.term FROM log.marks WHERE marks.term > found.term ORDER BY marks.term
        LIMIT 1), number + 1
    FROM found WHERE found.term IS NOT NULL AND number < %(most)s
) SELECT term FROM found WHERE term IS NOT NULL ORDER BY term

-- name: drop_marks
DELETE FROM log.marks WHERE term = ANY(%s) AND position <= %s

-- name: note_unmarked
UPDATE log.mover SET unmarked = %s
