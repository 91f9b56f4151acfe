-- The rows. Parameters: base (the youngest possible date), total, stride, models, junk, benchmarks, chats.
-- field_kinds(first, last, ...) says which slots get which kind of endpoint; a slot's id is 1 + slot * stride mod
-- total, which scatters every kind over the table and still lets the generator name every id.
INSERT INTO endpoints (id, ip, port, scan_date, verified, verification_date, is_honeypot, honeypot_reason,
                       is_active, inactive_reason, last_check_date, api_type)
SELECT s.id,
       CASE WHEN s.id = 1 THEN '127.0.0.1' ELSE concat_ws('.', net.first_octet, x.n >> 16, x.n >> 8 & 255, x.n & 255) END,
       CASE WHEN s.id = 1 THEN 11434
            WHEN mod(s.id, 50) = 0 THEN 11435
            WHEN mod(s.id, 23) = 0 THEN 8080
            WHEN mod(s.id, 41) = 0 THEN 443
            ELSE 11434 END,
       CASE WHEN k.scanned THEN d.scan END,
       k.verified,
       CASE WHEN k.dated THEN d.scan + interval '2 hours' END,
       k.is_honeypot,
       CASE WHEN k.is_honeypot THEN 'Answers every model name' END,
       k.is_active,
       CASE WHEN NOT k.is_active THEN 'Connection refused 3 times' END,
       CASE WHEN k.checked THEN d.scan + interval '9 hours' END,
       CASE WHEN mod(s.id, 9) = 0 THEN 'openai' ELSE 'ollama' END
FROM field_kinds AS k
CROSS JOIN LATERAL generate_series(k.first, k.last) AS slot
CROSS JOIN LATERAL (SELECT 1 + mod(slot::bigint * %(stride)s, %(total)s)::int AS id) AS s
-- every 50th endpoint is a second port of its neighbour's address
CROSS JOIN LATERAL (SELECT CASE WHEN mod(s.id, 50) = 0 THEN s.id - 1 ELSE s.id END AS host) AS h
CROSS JOIN LATERAL (SELECT mod(h.host::bigint * 7368787, 16777216)::int AS n) AS x
CROSS JOIN LATERAL (
    SELECT (ARRAY[5, 18, 34, 47, 65, 78, 89, 95, 116, 135, 141, 159, 167, 185, 194, 213])[1 + mod(h.host, 16)]
) AS net (first_octet)
CROSS JOIN LATERAL (
    SELECT %(base)s::timestamptz - make_interval(days => 1 + mod(s.id, 60), secs => mod(s.id * 37::bigint, 80000)) AS scan
) AS d
ORDER BY s.id;

INSERT INTO verified_endpoints (endpoint_id, verification_date)
SELECT s.id, CASE WHEN k.link_dated THEN coalesce(e.verification_date, e.scan_date + interval '3 hours', %(base)s) END
FROM field_kinds AS k
CROSS JOIN LATERAL generate_series(k.first, k.last) AS slot
CROSS JOIN LATERAL (SELECT 1 + mod(slot::bigint * %(stride)s, %(total)s)::int AS id) AS s
JOIN endpoints AS e ON e.id = s.id
WHERE k.linked
ORDER BY s.id;

CREATE TEMPORARY TABLE field_hosts AS
SELECT row_number() OVER (ORDER BY id) - 1 AS n, id FROM endpoints WHERE verified IN (1, 2);

CREATE TEMPORARY TABLE field_names AS
SELECT row_number() OVER () - 1 AS n, family || ':' || size AS name, upper(size) AS size, quant
FROM unnest(ARRAY['llama3', 'llama3.1', 'mistral', 'qwen2.5', 'qwen2.5-coder', 'gemma2', 'phi3', 'deepseek-r1',
                  'codellama', 'nomic-embed-text']) AS family
CROSS JOIN unnest(ARRAY['1.5b', '7b', '13b', '70b'], ARRAY['Q8_0', 'Q4_K_M', 'Q4_0', 'Q5_K_M']) AS s (size, quant);

-- Live models have the ids 1 to models; between them on disk lie the ones that the next scan will have replaced.
INSERT INTO models (id, endpoint_id, name, parameter_size, quantization_level, size_mb, api_type)
SELECT j.id, h.id, n.name || CASE WHEN j.id > %(models)s THEN '-old' || j.id ELSE '' END, n.size, n.quant,
       round((500 + mod(j.id * 7919::bigint, 40000000) / 1000.0)::numeric, 2), 'ollama'
FROM generate_series(0, %(models)s + %(junk)s - 1) AS place
CROSS JOIN LATERAL (SELECT 1 + mod(place * 7927::bigint, %(models)s + %(junk)s)::int AS id) AS j
JOIN field_hosts AS h ON h.n = mod(j.id, (SELECT count(*) FROM field_hosts))
JOIN field_names AS n ON n.n = mod(h.n * 7 + j.id / (SELECT count(*) FROM field_hosts), 40)
ORDER BY place;

DELETE FROM models WHERE id > %(models)s;

INSERT INTO benchmark_results
SELECT j, m.endpoint_id,
       CASE WHEN mod(j, 20) = 0 THEN NULL ELSE m.id END, -- what SET NULL left of models that are gone
       %(base)s::timestamptz - make_interval(secs => (%(benchmarks)s - j) * 20),
       r.x * 8, 5 + r.x * 90, r.x * 2, 100 + r.x * 400, 1 + r.x * 9, 4 + r.x * 80, 3 + r.x * 70, 2 + r.x * 60,
       1 + mod(j, 8), 1 - r.x / 5, r.x * 12, 1 - r.x / 10
FROM generate_series(1, %(benchmarks)s) AS j
CROSS JOIN LATERAL (SELECT mod(j * 104729::bigint, 9973) / 9973.0 AS x) AS r
JOIN models AS m ON m.id = 1 + mod(j * 7927::bigint, %(models)s)
ORDER BY j;

INSERT INTO chat_history (user_id, model_id, prompt, response, created_at)
SELECT 'user' || mod(j, 300), 1 + mod(j * 31, %(models)s), 'Question ' || j, repeat(md5(j::text), 12),
       %(base)s::timestamptz - make_interval(secs => (%(chats)s - j) * 60)
FROM generate_series(1, %(chats)s) AS j;

DELETE FROM chat_history WHERE mod(id, 5) <> 0;

INSERT INTO user_selected_models (user_id, model_id, selected_at)
SELECT 'user' || j, 1 + mod(j * 17, %(models)s), %(base)s::timestamptz - make_interval(hours => j)
FROM generate_series(1, 40) AS j;

INSERT INTO schema_version (version, applied_at)
VALUES ('1.0.0', %(base)s::timestamptz - interval '120 days');

SELECT setval('endpoints_id_seq', %(total)s), setval('models_id_seq', %(models)s + %(junk)s),
       setval('benchmark_results_id_seq', %(benchmarks)s);

DROP TABLE field_hosts, field_names, field_kinds;
