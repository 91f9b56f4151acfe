-- The chat bot's tables as the bot itself makes them.
DROP TABLE chat_history, user_selected_models;
CREATE TABLE user_selected_models (
    user_id TEXT PRIMARY KEY, model_id INTEGER REFERENCES models (id), selection_date TEXT
);
CREATE TABLE chat_history (
    id SERIAL PRIMARY KEY, user_id TEXT, model_id INTEGER REFERENCES models (id), prompt TEXT, system_prompt TEXT,
    response TEXT, temperature REAL, max_tokens INTEGER, timestamp TEXT, eval_count INTEGER, eval_duration REAL
);
INSERT INTO user_selected_models SELECT 'user' || id, id, '2025-01-01T00:00:00' FROM models WHERE mod(id, 9) = 0;
INSERT INTO chat_history (user_id, model_id, prompt, response, timestamp)
SELECT 'user' || id, id, 'Question', 'Answer', '2025-01-01T00:00:00' FROM models WHERE mod(id, 3) = 0;
GRANT ALL ON ALL TABLES IN SCHEMA public TO ollama;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO ollama;
