-- What the first line of pg_hba.conf that fits would ask of the maintenance role: over the socket, and over loopback.
SELECT DISTINCT ON (place) place, auth_method AS method
  FROM (SELECT r.auth_method, CASE r.type WHEN 'local' THEN 'socket' ELSE 'loopback' END AS place,
               row_number() OVER (ORDER BY (to_jsonb(r) ->> 'rule_number')::int, r.line_number) AS position
          FROM pg_hba_file_rules r
         WHERE r.error IS NULL
           AND r.type IN ('local', 'host', 'hostnossl', 'hostssl')
           AND (r.database && ARRAY['all', %(database)s::text] OR (r.database && ARRAY['sameuser'] AND %(database)s = %(role)s))
           AND (r.user_name && ARRAY['all', %(role)s::text]
                OR EXISTS (SELECT FROM pg_roles g, pg_roles m
                            WHERE '+' || g.rolname = ANY (r.user_name) AND m.rolname = %(role)s
                              AND pg_has_role(m.oid, g.oid, 'MEMBER')))
           AND (r.type = 'local' OR r.address IN ('all', 'samehost', 'localhost', '127.0.0.1', '127.0.0.0', '0.0.0.0'))
       ) fitting
 ORDER BY place, position
