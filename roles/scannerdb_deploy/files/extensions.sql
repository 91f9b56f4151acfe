-- The extensions that are wanted or there: their state here, and what only a superuser can do about them.
WITH wanted AS (
    SELECT jsonb_array_elements_text(%(wanted)s::jsonb) AS name
), known AS (
    SELECT name, (SELECT bool_or(v.trusted) FROM pg_available_extension_versions v WHERE v.name = a.name) AS trusted
      FROM pg_available_extensions a
), listed AS (
    SELECT name FROM wanted UNION SELECT extname FROM pg_extension
), seen AS (
    SELECT l.name, k.name IS NOT NULL AS available, coalesce(k.trusted, false) AS trusted,
           EXISTS (SELECT FROM pg_extension e WHERE e.extname = l.name) AS present,
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
      FROM listed l LEFT JOIN known k USING (name)
)
SELECT name,
       CASE WHEN present THEN 'present'
            WHEN NOT available THEN 'unavailable'
            WHEN superuser OR trusted THEN 'missing'
            ELSE 'forbidden' END AS state,
       CASE WHEN present AND NOT trusted AND name <> 'plpgsql'
            THEN format('A backup with the extension %%s can be restored by a superuser only.', name)
            WHEN present THEN ''
            WHEN NOT available
            THEN format('The server''s machine lacks the extension %%s: install postgresql-contrib, or its own package.', name)
            WHEN NOT (superuser OR trusted)
            THEN format('Only a superuser can make the extension %%s: CREATE EXTENSION %%I;', name, name)
            ELSE '' END AS note
  FROM seen
 ORDER BY name
