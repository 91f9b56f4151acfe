-- One GRANT for everything that the two roles need and do not have, directly or through PUBLIC.
WITH wanted (role, kind, name, privilege) AS (
    VALUES (%(maintenance)s::text, 'DATABASE', %(maintenance_db)s::text, 'CONNECT'),
           (%(maintenance)s, 'DATABASE', current_database()::text, 'CONNECT'),
           (%(maintenance)s, 'DATABASE', current_database()::text, 'CREATE'),
           (%(maintenance)s, 'SCHEMA', 'public', 'USAGE'),
           (%(maintenance)s, 'SCHEMA', 'public', 'CREATE'),
           (%(application)s, 'DATABASE', current_database()::text, 'CONNECT'),
           (%(application)s, 'SCHEMA', 'public', 'USAGE')
)
SELECT format('GRANT %%s ON %%s %%I TO %%I', w.privilege, w.kind, w.name, w.role) AS statement
  FROM wanted w JOIN pg_roles r ON r.rolname = w.role
 WHERE NOT CASE w.kind
           WHEN 'DATABASE' THEN has_database_privilege(r.oid, w.name, w.privilege)
           ELSE has_schema_privilege(r.oid, w.name, w.privilege)
           END
