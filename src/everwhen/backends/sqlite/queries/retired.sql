-- Retired history: what was given up, and is deleted.

-- name: retired_at
SELECT retired_at FROM retired WHERE last = ?

-- name: until
SELECT max(segments.last_time) FROM segments JOIN retired ON retired.last = segments.last

-- name: retire
INSERT INTO retired SELECT last, ?, ? FROM segments
WHERE last <= ? AND last > coalesce((SELECT max(last) FROM retired), 0)

-- name: last_chunk
SELECT max(last) FROM (
    SELECT last FROM chunks WHERE last <= (SELECT max(last) FROM retired) ORDER BY last LIMIT ?
)

-- name: drop_chunks
DELETE FROM chunks WHERE last <= ?

-- name: postings
SELECT segment, term FROM postings WHERE segment <= (SELECT max(last) FROM retired) LIMIT ?

-- name: last_group
SELECT max(last) FROM (
    SELECT last FROM archived WHERE last <= (SELECT max(last) FROM retired) ORDER BY last LIMIT ?
)

-- name: drop_groups
DELETE FROM archived WHERE last <= ?
