"""A PostgreSQL server and a damaged Ollama Scanner database to try the bundle on; the tests use both."""
