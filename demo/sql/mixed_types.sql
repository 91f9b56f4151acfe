-- Baseline tables with the types that another tool chose.
DROP VIEW recent_servers;
DROP VIEW servers;
DROP TRIGGER endpoint_scan_date ON endpoints;
DROP TRIGGER endpoint_verification_date ON endpoints;
ALTER TABLE endpoints
    ALTER ip TYPE VARCHAR(255), ALTER honeypot_reason TYPE VARCHAR(255), ALTER inactive_reason TYPE VARCHAR,
    ALTER scan_date TYPE TIMESTAMP, ALTER verification_date TYPE TIMESTAMP, ALTER last_check_date TYPE TIMESTAMP;
ALTER TABLE verified_endpoints ALTER verification_date TYPE TIMESTAMP;
ALTER TABLE models ALTER name TYPE VARCHAR(255);
CREATE VIEW servers AS
SELECT e.id, e.ip, e.port, e.scan_date FROM endpoints e JOIN verified_endpoints ve ON e.id = ve.endpoint_id;
GRANT ALL ON ALL TABLES IN SCHEMA public TO ollama;
