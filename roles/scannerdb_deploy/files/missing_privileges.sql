-- One GRANT for everything that the two roles need and do not have, directly or through PUBLIC.
WITH wanted (role, kind, name, privilege) AS (
    VALUES (%(maintenance)s::text, 'DATABASE', %(maintenance_db)s::text, 'CONNECT'),
           (%(maintenance)s, 'DATABASE', current_database()::text, 'CONNECT'),
           (%(maintenance)s, 'DATABASE', current_database()::text, 'CREATE'),
           (%(maintenance)s, 'SCHEMA', 'public', 'USAGE'),
           (%(maintenance)s, 'SCHEMA', 'public', 'CREATE'),
           (%(application)s, 'DATABASE', current_database()::text, 'CONNECT'),
           (%(application)s, 'DATABASE', current_database()::text, 'TEMPORARY'),
           (%(application)s, 'SCHEMA', 'public', 'USAGE')
    UNION
    -- Fixes change rows and structure with the rights of these roles, in functions that are temporary objects.
    SELECT o.rolname::text, 'DATABASE', current_database()::text, 'TEMPORARY'
      FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner AND NOT o.rolsuper
     WHERE c.relnamespace = to_regnamespace('public')::oid AND c.relkind IN ('r', 'p', 'v', 'S')
)
SELECT format('GRANT %%s ON %%s %%I TO %%I', w.privilege, w.kind, w.name, w.role) AS statement
  FROM wanted w JOIN pg_roles r ON r.rolname = w.role
 WHERE NOT CASE w.kind
           WHEN 'DATABASE' THEN has_database_privilege(r.oid, w.name, w.privilege)
           ELSE has_schema_privilege(r.oid, w.name, w.privilege)
           END
UNION ALL
-- The journal that a superuser's fixes made stays a superuser's; the maintenance role may use it.
SELECT format('GRANT ALL ON SCHEMA %%I TO %%I', n.nspname, r.rolname)
  FROM pg_namespace n JOIN pg_roles r ON r.rolname = %(maintenance)s
 WHERE n.nspname = 'scannerdb_maintenance' AND NOT has_schema_privilege(r.oid, n.oid, 'USAGE')
UNION ALL
SELECT format('GRANT ALL ON TABLE %%I.%%I TO %%I', n.nspname, c.relname, r.rolname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.rolname = %(maintenance)s
 WHERE n.nspname = 'scannerdb_maintenance' AND c.relkind = 'r' AND c.relname IN ('journal', 'seal')
   AND NOT has_table_privilege(r.oid, c.oid, 'INSERT')
