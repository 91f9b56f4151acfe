-- The roles of the field. They belong to the server, so another database may have made them already.
DO $$
BEGIN
    IF to_regrole('scanner_owner') IS NULL THEN
        CREATE ROLE scanner_owner NOLOGIN;
    END IF;
    IF to_regrole('ollama') IS NULL THEN
        CREATE ROLE ollama LOGIN PASSWORD 'ollama-demo';
    END IF;
    IF to_regrole('grafana_ro') IS NULL THEN
        CREATE ROLE grafana_ro LOGIN PASSWORD 'grafana-demo';
    END IF;
END
$$;
