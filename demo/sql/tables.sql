-- The tables as the scanner's old installer made them: every id a SERIAL, endpoints.port without a default.
CREATE TABLE endpoints (
    id SERIAL PRIMARY KEY,
    ip TEXT NOT NULL,
    port INTEGER NOT NULL,
    scan_date TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    verified INTEGER DEFAULT 0,
    verification_date TIMESTAMP WITH TIME ZONE,
    is_honeypot BOOLEAN DEFAULT FALSE,
    honeypot_reason TEXT,
    is_active BOOLEAN DEFAULT TRUE,
    inactive_reason TEXT,
    last_check_date TIMESTAMP WITH TIME ZONE,
    api_type TEXT DEFAULT 'ollama',
    UNIQUE (ip, port)
);

CREATE TABLE verified_endpoints (
    id SERIAL PRIMARY KEY,
    endpoint_id INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    verification_date TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (endpoint_id)
);

CREATE TABLE models (
    id SERIAL PRIMARY KEY,
    endpoint_id INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    parameter_size TEXT,
    quantization_level TEXT,
    size_mb NUMERIC(12, 2),
    api_type TEXT,
    UNIQUE (endpoint_id, name)
) WITH (autovacuum_enabled = off); -- somebody switched it off for a bulk load, and so it bloated

CREATE TABLE benchmark_results (
    id SERIAL PRIMARY KEY,
    endpoint_id INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    model_id INTEGER REFERENCES models (id) ON DELETE SET NULL,
    test_date TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    avg_response_time NUMERIC(10, 4),
    tokens_per_second NUMERIC(10, 4),
    first_token_latency NUMERIC(10, 4),
    throughput_tokens NUMERIC(10, 4),
    throughput_time NUMERIC(10, 4),
    context_500_tps NUMERIC(10, 4),
    context_1000_tps NUMERIC(10, 4),
    context_2000_tps NUMERIC(10, 4),
    max_concurrent_requests INTEGER,
    concurrency_success_rate NUMERIC(5, 4),
    concurrency_avg_time NUMERIC(10, 4),
    success_rate NUMERIC(5, 4)
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

-- The Discord bot's own tables.
CREATE TABLE chat_history (
    id SERIAL PRIMARY KEY,
    user_id TEXT NOT NULL,
    model_id INTEGER REFERENCES models (id) ON DELETE SET NULL,
    prompt TEXT,
    response TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
) WITH (autovacuum_enabled = off);

CREATE TABLE user_selected_models (
    user_id TEXT PRIMARY KEY,
    model_id INTEGER REFERENCES models (id) ON DELETE CASCADE,
    selected_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
);
