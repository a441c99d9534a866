-- What is written, one statement under each name.

-- name: lock
SELECT pg_advisory_xact_lock('log.slices'::regclass::oid::bigint)

-- name: append
SELECT head, head_time, heads FROM log.append(
    %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %t
)

-- name: end_when_idle
SET LOCAL idle_in_transaction_session_timeout = '10s'

-- name: reach_standbys
SELECT pg_logical_emit_message(true, 'everwhen', '')
WHERE current_setting('synchronous_standby_names') <> ''

-- name: lock_checkpoint
SELECT pg_advisory_xact_lock('log.checkpoints'::regclass::oid::int, hashtext(%s))

-- name: save_checkpoint
INSERT INTO log.checkpoints VALUES (%s, %s, %s)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, data = excluded.data

-- name: delete_checkpoint
DELETE FROM log.checkpoints WHERE name = %s

-- name: save_snapshot
INSERT INTO log.snapshots VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (subject, position) DO UPDATE
SET fold = excluded.fold, fold_version = excluded.fold_version, state = excluded.state

-- name: delete_snapshots
DELETE FROM log.snapshots WHERE subject = %s AND position = ANY(%s)

-- name: delete_snapshots_of_subject
DELETE FROM log.snapshots WHERE subject = %s

-- name: purge_snapshots
TRUNCATE log.snapshots

-- name: may_purge
SELECT has_table_privilege('log.snapshots', 'TRUNCATE')

-- name: lock_snapshots
LOCK TABLE log.snapshots IN ACCESS EXCLUSIVE MODE

-- name: lock_registry
SELECT pg_advisory_xact_lock('log.checkpoints'::regclass::oid::bigint)
