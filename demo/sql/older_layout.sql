-- The layout before the endpoints table: servers is a table, and models hang on it.
CREATE TABLE servers (
    id SERIAL PRIMARY KEY,
    ip TEXT NOT NULL,
    port INTEGER NOT NULL,
    status TEXT DEFAULT 'scanned' CHECK (status IN ('scanned', 'verified', 'failed')),
    scan_date TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    verified_date TIMESTAMP WITH TIME ZONE,
    is_honeypot BOOLEAN DEFAULT FALSE,
    honeypot_reason TEXT,
    is_active BOOLEAN DEFAULT TRUE,
    inactive_reason TEXT,
    UNIQUE (ip, port)
);
CREATE INDEX idx_servers_status ON servers (status);

CREATE TABLE models (
    id SERIAL PRIMARY KEY,
    name TEXT NOT NULL,
    server_id INTEGER REFERENCES servers (id) ON DELETE CASCADE,
    params TEXT,
    quant TEXT,
    size BIGINT,
    count INTEGER DEFAULT 1,
    UNIQUE (name, server_id)
);

CREATE TABLE benchmark_results (
    id SERIAL PRIMARY KEY,
    server_id INTEGER REFERENCES servers (id) ON DELETE CASCADE,
    model_id INTEGER REFERENCES models (id) ON DELETE SET NULL,
    test_date TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    tokens_per_second REAL
);

CREATE TABLE metadata (
    key TEXT PRIMARY KEY,
    value TEXT,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE schema_version (
    id SERIAL PRIMARY KEY,
    version TEXT NOT NULL,
    applied_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE chat_history (
    id SERIAL PRIMARY KEY, user_id TEXT, model_id INTEGER REFERENCES models (id), prompt TEXT, response TEXT
);

INSERT INTO servers (ip, port, status, scan_date, verified_date, is_honeypot, honeypot_reason, is_active)
SELECT concat_ws('.', 95, 217, j / 250, 1 + mod(j, 250)), 11434, (ARRAY['scanned', 'verified', 'failed'])[1 + mod(j, 3)],
       timestamptz '2025-04-01 00:00:00+00' + j * interval '1 hour',
       CASE mod(j, 3) WHEN 1 THEN timestamptz '2025-04-02 00:00:00+00' + j * interval '1 hour' END,
       mod(j, 20) = 0, CASE mod(j, 20) WHEN 0 THEN 'answers everything' END, mod(j, 7) > 0
FROM generate_series(1, 60) AS j;

INSERT INTO models (server_id, name, params, quant, size)
SELECT id, n || ':7b', '7B', 'Q4_0', 3800000000 + id FROM servers CROSS JOIN unnest(ARRAY['llama2', 'mistral']) AS n;

INSERT INTO benchmark_results (server_id, model_id, tokens_per_second)
SELECT server_id, id, 20 + mod(id, 30) FROM models;

INSERT INTO metadata (key, value) VALUES ('server_count', '60'), ('model_count', '119');
INSERT INTO schema_version (version) VALUES ('0.9');
INSERT INTO chat_history (user_id, model_id, prompt, response)
SELECT 'user' || id, id, 'Question', 'Answer' FROM models WHERE mod(id, 5) = 0;
GRANT ALL ON ALL TABLES IN SCHEMA public TO ollama;
GRANT SELECT ON servers TO grafana_ro;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO ollama;
