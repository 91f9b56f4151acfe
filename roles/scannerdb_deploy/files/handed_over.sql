-- The bundle's own schema, where a superuser's jobs have made it: it goes to the maintenance role.
SELECT format('ALTER SCHEMA %%I OWNER TO %%I', n.nspname, %(maintenance)s::text) AS statement, 1 AS step
  FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
 WHERE n.nspname = 'scannerdb_maintenance' AND r.rolsuper
UNION ALL
SELECT format('ALTER TABLE %%I.%%I OWNER TO %%I', n.nspname, c.relname, %(maintenance)s), 2
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
 WHERE n.nspname = 'scannerdb_maintenance' AND c.relkind IN ('r', 'p') AND r.rolsuper
 ORDER BY step
