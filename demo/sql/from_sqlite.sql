-- What a move from SQLite leaves: dates as text, booleans as integers, and every sequence at its start.
DROP VIEW recent_servers;
DROP VIEW servers;
DROP TRIGGER endpoint_scan_date ON endpoints;
DROP TRIGGER endpoint_verification_date ON endpoints;
ALTER TABLE endpoints
    ALTER scan_date DROP DEFAULT, ALTER is_honeypot DROP DEFAULT, ALTER is_active DROP DEFAULT,
    ALTER scan_date TYPE TEXT USING to_char(scan_date, 'YYYY-MM-DD"T"HH24:MI:SS.US'),
    ALTER verification_date TYPE TEXT USING to_char(verification_date, 'YYYY-MM-DD HH24:MI:SS'),
    ALTER last_check_date TYPE TEXT USING to_char(last_check_date, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    ALTER is_honeypot TYPE INTEGER USING is_honeypot::integer,
    ALTER is_active TYPE INTEGER USING is_active::integer;
ALTER TABLE verified_endpoints
    ALTER verification_date DROP DEFAULT,
    ALTER verification_date TYPE TEXT USING to_char(verification_date, 'YYYY-MM-DD"T"HH24:MI:SS');
ALTER TABLE benchmark_results
    ALTER test_date DROP DEFAULT,
    ALTER test_date TYPE TEXT USING to_char(test_date, 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00');
ALTER TABLE metadata ALTER updated_at DROP DEFAULT, ALTER updated_at TYPE TEXT;
ALTER TABLE schema_version ALTER applied_at DROP DEFAULT, ALTER applied_at TYPE TEXT;
CREATE VIEW servers AS
SELECT e.id, e.ip, e.port, e.scan_date FROM endpoints e JOIN verified_endpoints ve ON e.id = ve.endpoint_id;
GRANT ALL ON ALL TABLES IN SCHEMA public TO ollama;
SELECT setval(s.oid::regclass, 1, false) FROM pg_class s
 WHERE s.relkind = 'S' AND s.relnamespace = 'public'::regnamespace;
