"""The queries of measure.py. Each reads catalogs and statistics only.

In a database of thousands of tables the size functions (a system call for each fork of each file) and the planner's
statistics (a privilege to test for each column) cost most. So both are read for a list of relations, and not at all for
those that are small by the catalog's own page count and have not changed since.
"""

# Relations that somebody holds, or waits for, in ACCESS EXCLUSIVE mode: opening them would wait.
BUSY = """
    busy AS MATERIALIZED (
        SELECT DISTINCT relation FROM pg_locks
         WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

# A key that pg_repack can follow changes by: unique, whole, over columns that are NOT NULL.
TABLES = """
WITH owners AS MATERIALIZED (
        SELECT oid, rolname::text AS name, rolsuper, pg_has_role(oid, 'USAGE') AS mine FROM pg_roles),
    keys AS (
        SELECT i.indrelid, sum(c.relpages) AS pages,
               bool_or(i.indisunique AND i.indisvalid AND i.indpred IS NULL AND 0 <> ALL (i.indkey)
                       AND (i.indisprimary OR NOT EXISTS (
                            SELECT FROM pg_attribute a
                             WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull))) AS key,
               bool_or((i.indisprimary OR i.indisreplident) AND i.indisvalid AND i.indimmediate) AS identity
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         GROUP BY i.indrelid)
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, o.name AS owner,
       o.rolsuper AS owner_is_superuser,
       c.relkind::text AS kind, c.relpersistence::text AS persistence,
       coalesce(nullif(c.reltablespace, 0), d.dattablespace)::bigint AS tablespace,
       c.relpages AS pages, coalesce(t.relpages, 0) AS toast_pages, coalesce(k.pages, 0)::bigint AS index_pages,
       c.reltuples::float8 AS reltuples, coalesce(c.reloptions, '{{}}') AS reloptions,
       coalesce(k.key, false) AS has_key, coalesce(k.identity, false) AND c.relreplident <> 'n' AS has_identity,
       pg_stat_get_live_tuples(c.oid) AS n_live, pg_stat_get_dead_tuples(c.oid) AS n_dead,
       pg_stat_get_mod_since_analyze(c.oid) AS n_mod,
       greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed,
       greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed,
       greatest(age(c.relfrozenxid), age(t.relfrozenxid)) AS xid_age,
       greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) AS mxid_age,
       o.mine OR {maintain} OR pg_has_role(d.datdba, 'USAGE') AS may_vacuum, o.mine OR {maintain} AS may_rebuild,
       CASE WHEN c.relispartition THEN (
           SELECT json_agg(json_build_array(pn.nspname, p.relname))
             FROM pg_partition_ancestors(c.oid) up(relid)
             JOIN pg_class p ON p.oid = up.relid JOIN pg_namespace pn ON pn.oid = p.relnamespace
            WHERE p.oid <> c.oid) END AS parents
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN owners o ON o.oid = c.relowner
  JOIN pg_database d ON d.datname = current_database()
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
  LEFT JOIN keys k ON k.indrelid = c.oid
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   AND NOT (n.nspname = 'repack' AND c.relname ~ '^(log|table)_[0-9]+$')
 ORDER BY n.nspname, c.relname
"""

SETTINGS = """
SELECT current_setting('block_size')::int AS block,
       current_setting('autovacuum_freeze_max_age')::int AS freeze_max_age,
       current_setting('autovacuum_multixact_freeze_max_age')::int AS mxid_freeze_max_age
"""

# Sizes in bytes of heap and table (with TOAST and the maps), null where opening the table would wait; and its columns.
TABLE_DETAILS = """
WITH {busy},
    widths AS (
        SELECT a.attrelid, json_agg(json_build_object(
                   'align', CASE a.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END,
                   'fixed', a.attlen > 0,
                   'width', CASE WHEN a.attgenerated = 'v' THEN 0 ELSE st.avg_width END,
                   'null_frac', CASE WHEN a.attgenerated = 'v' THEN 1 ELSE st.null_frac END,
                   'distinct', coalesce(st.n_distinct, 0)) ORDER BY a.attnum) AS columns
          FROM pg_attribute a
          JOIN pg_class c ON c.oid = a.attrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_stats st ON st.schemaname = n.nspname AND st.tablename = c.relname
               AND st.attname = a.attname AND NOT st.inherited
         WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
         GROUP BY a.attrelid)
SELECT c.oid::bigint AS oid,
       CASE WHEN b.relation IS NULL THEN pg_relation_size(c.oid) END AS heap_bytes,
       CASE WHEN b.relation IS NULL THEN pg_table_size(c.oid) END AS table_bytes, coalesce(w.columns, '[]') AS columns
  FROM pg_class c
  LEFT JOIN widths w ON w.attrelid = c.oid
  LEFT JOIN busy b ON b.relation = c.oid
 WHERE c.oid = ANY (%(oids)s::oid[])
"""

# The indexes of these tables, and those of any table that are as large as `pages`, or invalid. A btree deduplicates
# where every key column's operator class says that equal values are alike byte by byte (support function 4) and there
# are no INCLUDE columns.
INDEXES = """
WITH {busy},
    wanted AS MATERIALIZED (
        SELECT i.*, c.relname, c.relpages, c.reltuples, c.reloptions, n.nspname, am.amname, t.relname AS table_name
          FROM pg_index i
          JOIN pg_class c ON c.oid = i.indexrelid
          JOIN pg_class t ON t.oid = i.indrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_am am ON am.oid = c.relam
         WHERE t.relkind IN ('r', 'm') AND t.relpersistence <> 't'
           AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
           AND (i.indrelid = ANY (%(oids)s::oid[]) OR c.relpages >= %(pages)s OR NOT i.indisvalid)),
    -- Read once: as a subquery for each index, the view would be searched again and again in a database of many tables.
    stats AS MATERIALIZED (
        SELECT schemaname, tablename, attname, avg_width, null_frac, n_distinct FROM pg_stats
         WHERE NOT inherited AND tablename IN (SELECT relname FROM wanted UNION SELECT table_name FROM wanted)),
    keys AS (
        SELECT ia.attrelid, json_agg(json_build_object(
                   'align', CASE ia.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END,
                   'fixed', ia.attlen > 0, 'width', st.avg_width, 'null_frac', st.null_frac,
                   'distinct', coalesce(st.n_distinct, 0)) ORDER BY ia.attnum) AS columns
          FROM wanted i
          JOIN pg_attribute ia ON ia.attrelid = i.indexrelid
          LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum > 0
               AND ta.attnum = i.indkey[ia.attnum - 1]
          LEFT JOIN stats st ON st.schemaname = i.nspname
               AND st.tablename = CASE WHEN ta.attnum IS NULL THEN i.relname ELSE i.table_name END
               AND st.attname = CASE WHEN ta.attnum IS NULL THEN ia.attname ELSE ta.attname END
         WHERE i.amname = 'btree'
         GROUP BY ia.attrelid)
SELECT i.indrelid::bigint AS table_oid, i.nspname::text AS schema, i.relname::text AS name, i.amname::text AS method,
       i.relpages AS pages, i.reltuples::float8 AS rows, coalesce(i.reloptions, '{{}}') AS reloptions,
       i.indisvalid AS valid, i.indisunique AS unique, i.indisexclusion AS exclusion, i.indpred IS NOT NULL AS partial,
       CASE WHEN b.relation IS NULL AND tb.relation IS NULL THEN pg_relation_size(i.indexrelid) END AS bytes,
       i.indnkeyatts = i.indnatts AND NOT EXISTS (
           SELECT FROM unnest(i.indclass::oid[]) k(opc) JOIN pg_opclass o ON o.oid = k.opc
            WHERE NOT EXISTS (SELECT FROM pg_amproc p WHERE p.amprocfamily = o.opcfamily AND p.amprocnum = 4
                                 AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype)
       ) AS deduplicates,
       k.columns
  FROM wanted i
  LEFT JOIN keys k ON k.attrelid = i.indexrelid
  LEFT JOIN busy b ON b.relation = i.indexrelid
  LEFT JOIN busy tb ON tb.relation = i.indrelid
 ORDER BY i.nspname, i.relname
"""

# Tables of which an interrupted pg_repack left something.
DEBRIS = """
SELECT DISTINCT oid FROM (
    SELECT substring(c.relname from '^(?:log|table)_([0-9]+)$')::bigint AS oid
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'repack'
    UNION ALL
    SELECT t.tgrelid::bigint FROM pg_trigger t
      JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE t.tgname = 'repack_trigger' AND n.nspname = 'repack') AS left_over
 WHERE oid IS NOT NULL
"""

OF_SOME = (TABLE_DETAILS, INDEXES)
