-- What the second version adds: a group of commits in one call.

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
    stream_ids bigint[];
    fits boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append needs READ COMMITTED: elsewhere it would not see what is written';
    END IF;
    PERFORM pg_advisory_xact_lock('log.slices'::regclass::oid::bigint);
    SELECT position, recorded_at INTO head, head_time FROM log.slices ORDER BY position DESC LIMIT 1;
    head := coalesce(head, 0);
    IF head_time > latest OR all_after < head THEN
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
