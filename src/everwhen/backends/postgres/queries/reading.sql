-- What is read, one statement under each name.

-- name: head
SELECT position, recorded_at FROM log.slices ORDER BY position DESC LIMIT 1

-- name: ends
SELECT position, recorded_at, (SELECT coalesce(max(last), 0) FROM log.retired)
FROM log.slices ORDER BY position DESC LIMIT 1

-- name: end
SELECT coalesce((SELECT position FROM log.slices ORDER BY position DESC LIMIT 1), 0),
    pg_is_in_recovery()

-- name: timeline
SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
END

-- name: identity_and_settings
SELECT (SELECT system_identifier FROM pg_control_system()),
    (SELECT oid FROM pg_database WHERE datname = current_database()), to_regclass('log.slices')::oid,
    current_setting('transaction_isolation'),
    CASE WHEN pg_is_in_recovery() THEN '' ELSE
        substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
    END,
    current_setting('lock_timeout'), current_setting('search_path')

-- name: names
SELECT id, name FROM log.streams WHERE id = ANY(%s)

-- name: position_at
SELECT log.position_at(%(moment)s), coalesce(max(retired.last), 0), max(last_time)
FROM log.retired JOIN log.segments USING (last)

-- name: streams
SELECT name, version, position, recorded_at
FROM (SELECT id, name FROM log.streams WHERE name > %s ORDER BY name LIMIT %s) AS named
CROSS JOIN LATERAL (
    SELECT version, position, recorded_at FROM log.slices WHERE stream = id
    ORDER BY version DESC LIMIT 1
) AS newest
ORDER BY name

-- name: streams_of_category
SELECT name, version, position, recorded_at
FROM (SELECT id, name FROM log.streams WHERE name > %s AND (name = %s OR (name >= %s AND name < %s)) ORDER BY name LIMIT %s) AS named
CROSS JOIN LATERAL (
    SELECT version, position, recorded_at FROM log.slices WHERE stream = id
    ORDER BY version DESC LIMIT 1
) AS newest
ORDER BY name

-- name: stream
SELECT name, version, position, recorded_at
FROM log.streams CROSS JOIN LATERAL (
    SELECT version, position, recorded_at FROM log.slices WHERE stream = id
    ORDER BY version DESC LIMIT 1
) AS newest
WHERE name = %s

-- name: checkpoint
SELECT name, position, data FROM log.checkpoints WHERE name = %s

-- name: checkpoints
SELECT name, position, data FROM log.checkpoints WHERE starts_with(name, %s) ORDER BY name

-- name: snapshots
SELECT subject, position, fold, fold_version, state FROM log.snapshots
WHERE subject = %s AND position <= %s ORDER BY position DESC LIMIT %s

-- name: snapshots_after
SELECT subject, position, fold, fold_version FROM log.snapshots
WHERE (subject, position) > (%s, %s) ORDER BY subject, position LIMIT %s

-- name: known_commits
SELECT commit_id FROM log.slices WHERE commit_id = ANY(%s) AND first_index = 0

-- name: versions
SELECT name, coalesce((
    SELECT version FROM log.slices WHERE stream = id ORDER BY version DESC LIMIT 1
), 0) FROM log.streams WHERE name = ANY(%s)

-- name: table_sizes
SELECT relname, pg_total_relation_size(oid),
    coalesce(nullif(pg_stat_get_live_tuples(oid), 0), greatest(reltuples, 0)::bigint),
    pg_stat_get_dead_tuples(oid)
FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r' ORDER BY relname
