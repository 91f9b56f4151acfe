-- The roles that the maintenance role should be a member of; of superusers it cannot be, so what they own is said.
-- A list comes as JSON: the module that runs this makes an array of it whose elements have quotes.
WITH owned AS (
    SELECT datdba AS owner, 'the database (without it there is no restore)' AS what
      FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT relowner, 'relations in the schema public'
      FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
)
SELECT r.rolname::text AS role, r.rolsuper AS superuser, string_agg(DISTINCT o.what, ' and ') AS owns
  FROM pg_roles r LEFT JOIN owned o ON o.owner = r.oid
 WHERE o.owner IS NOT NULL OR r.rolname IN (SELECT jsonb_array_elements_text(%(groups)s::jsonb))
 GROUP BY r.oid, r.rolname, r.rolsuper
 ORDER BY r.rolname
