-- The layout before the endpoints table: servers is a table, and models hang on it.
CREATE TABLE servers (
    id SERIAL PRIMARY KEY,
    ip TEXT NOT NULL,
    port INTEGER NOT NULL,
    scan_date TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    status TEXT DEFAULT 'scanned',
    UNIQUE (ip, port)
);

CREATE TABLE models (
    id SERIAL PRIMARY KEY,
    server_id INTEGER REFERENCES servers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    params TEXT,
    quant TEXT,
    size BIGINT,
    UNIQUE (server_id, name)
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
    value TEXT
);

INSERT INTO servers (ip, port, status)
SELECT concat_ws('.', 95, 217, j / 250, 1 + mod(j, 250)), 11434, (ARRAY['scanned', 'verified', 'dead'])[1 + mod(j, 3)]
FROM generate_series(1, 60) AS j;

INSERT INTO models (server_id, name, params, quant, size)
SELECT id, n || ':7b', '7B', 'Q4_0', 3800000000 FROM servers CROSS JOIN unnest(ARRAY['llama2', 'mistral']) AS n;

INSERT INTO benchmark_results (server_id, model_id, tokens_per_second)
SELECT server_id, id, 20 + mod(id, 30) FROM models;

INSERT INTO metadata VALUES ('server_count', '60'), ('model_count', '119');
GRANT ALL ON ALL TABLES IN SCHEMA public TO ollama;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO ollama;
