-- Indexes, triggers, views and grants as they piled up over the years.
CREATE INDEX endpoints_ip_idx ON endpoints (ip); -- the unique (ip, port) leads with it
CREATE INDEX endpoints_verified_idx ON endpoints (verified);
CREATE INDEX idx_endpoints_honeypot ON endpoints (is_honeypot);
CREATE INDEX idx_endpoints_active ON endpoints (is_active);
CREATE INDEX idx_endpoints_verified_honeypot ON endpoints (verified, is_honeypot);
-- idx_endpoints_verified_active is made afterwards, and fails half-way
CREATE INDEX verified_endpoints_endpoint_id_idx ON verified_endpoints (endpoint_id); -- the unique has it
CREATE INDEX models_endpoint_id_idx ON models (endpoint_id); -- the unique (endpoint_id, name) leads with it
CREATE INDEX models_name_idx ON models (name);
CREATE INDEX benchmark_results_endpoint_id_idx ON benchmark_results (endpoint_id);
CREATE INDEX benchmark_results_model_id_idx ON benchmark_results (model_id);
-- benchmark_results_test_date_idx was forgotten
CREATE INDEX metadata_key_idx ON metadata (key); -- the primary key has it

CREATE FUNCTION update_endpoint_scan_date() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.scan_date := CURRENT_TIMESTAMP;
    RETURN NEW;
END;
$$;

CREATE TRIGGER endpoint_scan_date BEFORE UPDATE ON endpoints
FOR EACH ROW WHEN (OLD.ip IS DISTINCT FROM NEW.ip OR OLD.port IS DISTINCT FROM NEW.port)
EXECUTE FUNCTION update_endpoint_scan_date();

CREATE FUNCTION update_endpoint_verification_date() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.verification_date := CURRENT_TIMESTAMP;
    RETURN NEW;
END;
$$;

CREATE TRIGGER endpoint_verification_date BEFORE UPDATE ON endpoints
FOR EACH ROW WHEN (OLD.verified IS DISTINCT FROM NEW.verified)
EXECUTE FUNCTION update_endpoint_verification_date();

CREATE VIEW servers AS
SELECT e.id, e.ip, e.port, e.scan_date
FROM endpoints e
JOIN verified_endpoints ve ON e.id = ve.endpoint_id;

CREATE VIEW recent_servers AS
SELECT id, ip, port, scan_date FROM servers WHERE scan_date > CURRENT_TIMESTAMP - interval '30 days';

GRANT USAGE ON SCHEMA public TO ollama, grafana_ro;
GRANT ALL ON ALL TABLES IN SCHEMA public TO ollama; -- the views as well
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO ollama;
GRANT SELECT ON servers, recent_servers, endpoints, models TO grafana_ro;
