-- What one log is made of. In all of these files `log.` stands for its schema.

-- name: tables
CREATE TABLE log.streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);
CREATE TABLE log.slices (
    position bigint PRIMARY KEY,
    stream bigint NOT NULL,
    version bigint NOT NULL,
    count bigint NOT NULL,
    recorded_at bigint NOT NULL,
    commit_id uuid NOT NULL,
    first_index bigint NOT NULL,
    metadata bytea,
    body bytea NOT NULL,
    size bigint NOT NULL GENERATED ALWAYS AS (octet_length(body)) STORED
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX slices_by_stream ON log.slices (stream, version);
CREATE UNIQUE INDEX slices_by_commit ON log.slices (commit_id) WHERE first_index = 0;
CREATE TABLE log.marks (
    term bigint NOT NULL, position bigint NOT NULL, PRIMARY KEY (term, position)
);
CREATE TABLE log.checkpoints (
    name text COLLATE "C" PRIMARY KEY, position bigint NOT NULL, data bytea NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE log.snapshots (
    subject text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    fold text NOT NULL,
    fold_version bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (subject, position)
);
CREATE TABLE log.meta (version bigint NOT NULL);
INSERT INTO log.meta VALUES (1)

-- name: events
CREATE VIEW log.events AS
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
CROSS JOIN LATERAL json_array_elements(convert_from(slices.body, 'UTF8')::json)
    WITH ORDINALITY AS entries (entry, number)

-- name: position_at
CREATE FUNCTION log.position_at(moment bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;
    high bigint := coalesce((SELECT max(position) FROM log.slices), 0);
    middle bigint;
    found record;
BEGIN
    WHILE low < high LOOP
        middle := (low + high) / 2 + 1;
        SELECT position, count, recorded_at INTO found FROM log.slices
        WHERE position >= middle ORDER BY position LIMIT 1;
        IF found.recorded_at <= moment THEN
            low := found.position;
        ELSE
            high := least(found.position - found.count, middle - 1);
        END IF;
    END LOOP;
    RETURN low;
END $$

-- name: first_version
CREATE FUNCTION log.first_version(of_stream bigint, after bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;
    high bigint := coalesce((SELECT max(version) FROM log.slices WHERE stream = of_stream), 0);
    middle bigint;
    found record;
BEGIN
    WHILE low < high LOOP
        middle := (low + high) / 2 + 1;
        SELECT version, count, position INTO found FROM log.slices
        WHERE stream = of_stream AND version >= middle ORDER BY version LIMIT 1;
        IF found.position <= after THEN
            low := found.version;
        ELSE
            high := least(found.version - found.count, middle - 1);
        END IF;
    END LOOP;
    RETURN low + 1;
END $$
