-- The view ``events`` of a store with segments, in place of the one that a store begins with:
-- sealed slices come from a table that only Everwhen's own connections have.

-- name: create
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
FROM (
    SELECT position, stream, version, count, recorded_at, commit_id, metadata, body FROM slices
    WHERE position > (SELECT coalesce(max(last), 0) FROM segments)
    UNION ALL
    SELECT position, stream, version, count, recorded_at, commit_id, metadata, body
    FROM sealed_slices
) AS slices
JOIN streams ON streams.id = slices.stream,
json_each(CAST(slices.body AS TEXT)) AS entry

-- name: drop
DROP VIEW events

-- name: exists
SELECT 1 FROM sqlite_schema WHERE name = 'events' AND sql LIKE '%sealed_slices%'
