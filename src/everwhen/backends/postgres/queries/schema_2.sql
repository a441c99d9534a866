-- What the second version adds: sealed history, and a group of commits in one call.
--
-- Old slices are sealed: their bodies and metadata are packed in chunks, of which a segment has
-- many, and compressed; the rows stay, with an empty body. A segment is keyed by the position of
-- its last event, as a slice is, and a chunk likewise.

-- name: tables
CREATE TABLE log.segments (
    last bigint PRIMARY KEY,
    first bigint NOT NULL,
    slices bigint NOT NULL,
    first_time bigint NOT NULL,
    last_time bigint NOT NULL,
    bytes bigint NOT NULL,
    sha256 bytea NOT NULL
);
-- Chunks after the last segment are those of one that is being made, or wasn't finished.
CREATE TABLE log.chunks (
    last bigint PRIMARY KEY,
    first_time bigint NOT NULL,
    dictionary bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE log.chunks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE log.dictionaries (id bigint PRIMARY KEY, data bytea NOT NULL);
-- Chunks may be in Parquet objects outside of the database, in their place or beside them. An
-- object that isn't used has the time, in microseconds, since when.
CREATE TABLE log.objects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    url text NOT NULL,
    name text NOT NULL,
    size bigint NOT NULL,
    unused_since bigint,
    UNIQUE (url, name)
);
-- A row group of an object, keyed as a chunk is. Where there is a chunk with the same key, the
-- group's slices are in chunks as well, and read from them.
CREATE TABLE log.archived (
    last bigint PRIMARY KEY,
    first_time bigint NOT NULL,
    object bigint NOT NULL,
    row_group bigint NOT NULL,
    sha256 bytea NOT NULL
);
-- Segments whose slices were given up, by the position of the event that says so, and when. Of
-- their rows each stream's newest stays, and the ids of commits that don't say when they were made.
CREATE TABLE log.retired (
    last bigint PRIMARY KEY, recorded bigint NOT NULL, retired_at bigint NOT NULL
);
CREATE TABLE log.retired_commits (commit_id uuid PRIMARY KEY);
-- Who moves history at present: whoever begins to move takes it over, and stops who did before.
-- Up to which positions rows are without their bodies, deleted, and found by no mark.
CREATE TABLE log.mover (
    id int PRIMARY KEY CHECK (id = 1),
    token bytea NOT NULL,
    emptied bigint NOT NULL,
    deleted bigint NOT NULL,
    unmarked bigint NOT NULL
);
INSERT INTO log.mover VALUES (1, '', 0, 0, 0)

-- name: compression
DO $$ BEGIN
    ALTER TABLE log.slices ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$

-- name: readers
DO $$
DECLARE
    reader text;
BEGIN
    FOR reader IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
        FROM pg_class, aclexplode(relacl)
        WHERE oid = 'log.slices'::regclass AND privilege_type = 'SELECT' AND grantee <> relowner
    LOOP
        EXECUTE 'GRANT SELECT ON log.segments, log.chunks, log.dictionaries, log.objects, '
            'log.archived, log.retired, log.retired_commits, log.mover TO ' || reader;
    END LOOP;
END $$

-- name: body_to_show
CREATE FUNCTION log.body_to_show(place bigint, body bytea) RETURNS json
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF octet_length(body) = 0 THEN
        RAISE EXCEPTION 'the events up to position % are sealed or retired: SQL can''t read them, '
            'read them through the store', place;
    END IF;
    RETURN convert_from(body, 'UTF8')::json;
END $$

-- name: events
CREATE OR REPLACE VIEW log.events AS
SELECT
    slices.position - slices.count + entries.number AS position,
    streams.name AS stream,
    slices.version - slices.count + entries.number AS version,
    entries.entry ->> 0 AS type,
    (entries.entry ->> 1)::bigint AS schema_version,
    to_timestamp(slices.recorded_at / 1000000.0) AS recorded_at,
    slices.commit_id,
    entries.entry -> 2 AS data,
    coalesce(entries.entry -> 3, '[]'::json) AS tags
FROM log.slices JOIN log.streams ON streams.id = slices.stream
CROSS JOIN LATERAL json_array_elements(log.body_to_show(slices.position, slices.body))
    WITH ORDINALITY AS entries (entry, number)

-- name: append
CREATE FUNCTION log.append(
    latest bigint,
    used uuid[],
    names text[], lowest bigint[], highest bigint[],
    selectors bigint[], terms bigint[], term_afters bigint[],
    read_names text[], read_afters bigint[],
    all_after bigint,
    slice_names bigint[], positions bigint[], versions bigint[], counts bigint[], times bigint[],
    ids uuid[], first_indexes bigint[], metadatas bytea[], bodies bytea[],
    mark_terms bigint[], mark_positions bigint[], mark_widths bigint[],
    channel text,
    OUT head bigint, OUT head_time bigint, OUT heads bigint[]
) LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
-- The log's lock is held from here to the end of the call, and never over a round trip. Nothing is
-- written, and `heads` stays NULL, where anything that the group rests on may not hold: then
-- whoever called judges it under the lock.
DECLARE
    retired bigint;
    stream_ids bigint[];
    fits boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append needs READ COMMITTED: elsewhere it would not see what is written';
    END IF;
    PERFORM pg_advisory_xact_lock('log.slices'::regclass::oid::bigint);
    SELECT position, recorded_at, (SELECT max(last) FROM log.retired)
    INTO head, head_time, retired FROM log.slices ORDER BY position DESC LIMIT 1;
    head := coalesce(head, 0);
    IF head_time > latest OR all_after < head THEN
        RETURN;
    END IF;
    IF used <> '{}' AND retired > 0 OR retired > ANY (term_afters) OR retired > ANY (read_afters) THEN
        RETURN;
    END IF;
    IF used <> '{}' AND EXISTS (
        SELECT FROM log.slices WHERE commit_id = ANY (used) AND first_index = 0
    ) THEN
        RETURN;
    END IF;
    IF terms <> '{}' AND EXISTS (
        SELECT FROM unnest(selectors, terms, term_afters) AS asked (selector, term, after)
        WHERE after < head GROUP BY selector HAVING bool_and(EXISTS (
            SELECT FROM log.marks WHERE marks.term = asked.term AND position > asked.after
        ))
    ) THEN
        RETURN;
    END IF;
    IF read_names <> '{}' AND EXISTS (
        SELECT FROM unnest(read_names, read_afters) AS asked (stream_name, after)
        WHERE after < (
            SELECT position FROM log.slices
            WHERE stream = (SELECT id FROM log.streams WHERE name = stream_name)
            ORDER BY version DESC LIMIT 1
        )
    ) THEN
        RETURN;
    END IF;
    SELECT array_agg(id ORDER BY number), array_agg(newest ORDER BY number),
        bool_and(newest BETWEEN low AND high)
    INTO stream_ids, heads, fits
    FROM (
        SELECT number, low, high, id, coalesce((
            SELECT version FROM log.slices WHERE stream = id ORDER BY version DESC LIMIT 1
        ), 0) AS newest
        FROM (
            SELECT number, low, high, (SELECT id FROM log.streams WHERE name = stream_name) AS id
            FROM unnest(names, lowest, highest) WITH ORDINALITY
                AS asked (stream_name, low, high, number)
        ) AS found
    ) AS standing;
    IF NOT fits THEN
        heads := NULL;
        RETURN;
    END IF;
    IF array_position(stream_ids, NULL) IS NOT NULL THEN
        WITH needed AS (
            SELECT DISTINCT names[number] AS stream_name FROM unnest(slice_names) AS number
            WHERE stream_ids[number] IS NULL
        ), added AS (
            INSERT INTO log.streams (name) SELECT stream_name FROM needed RETURNING name, id
        )
        SELECT array_agg(coalesce(stream_ids[number], id) ORDER BY number) INTO stream_ids
        FROM unnest(names) WITH ORDINALITY AS asked (stream_name, number)
        LEFT JOIN added ON added.name = stream_name;
    END IF;
    INSERT INTO log.slices (
        position, stream, version, count, recorded_at, commit_id, first_index, metadata, body
    )
    SELECT head + position, stream_ids[name], heads[name] + version, count,
        greatest(head_time, recorded_at), commit_id, first_index, metadata, body
    FROM unnest(
        slice_names, positions, versions, counts, times, ids, first_indexes, metadatas, bodies
    ) AS given (
        name, position, version, count, recorded_at, commit_id, first_index, metadata, body
    );
    INSERT INTO log.marks
    SELECT term, (head + position) | width
    FROM unnest(mark_terms, mark_positions, mark_widths) AS given (term, position, width)
    ON CONFLICT DO NOTHING;
    PERFORM pg_notify(channel, '');
END $$

-- name: version
UPDATE log.meta SET version = 2
