-- Rows without a parent: only possible where a foreign key is missing or was added without looking.
ALTER TABLE models DROP CONSTRAINT models_endpoint_id_fkey;
ALTER TABLE verified_endpoints DROP CONSTRAINT verified_endpoints_endpoint_id_fkey;
ALTER TABLE benchmark_results DROP CONSTRAINT benchmark_results_endpoint_id_fkey;
ALTER TABLE benchmark_results DROP CONSTRAINT benchmark_results_model_id_fkey;

INSERT INTO models (endpoint_id, name) SELECT 900000000 + j, 'lost:7b' FROM generate_series(1, 7) AS j;
INSERT INTO verified_endpoints (endpoint_id) SELECT 900000000 + j FROM generate_series(1, 5) AS j;
INSERT INTO benchmark_results (endpoint_id) SELECT 900000000 + j FROM generate_series(1, 4) AS j;
INSERT INTO benchmark_results (endpoint_id, model_id)
SELECT min(id), 900000000 + j FROM endpoints CROSS JOIN generate_series(1, 3) AS j GROUP BY j;

-- benchmark_results.endpoint_id stays without its constraint
ALTER TABLE models ADD CONSTRAINT models_endpoint_id_fkey
FOREIGN KEY (endpoint_id) REFERENCES endpoints (id) ON DELETE CASCADE NOT VALID;
ALTER TABLE verified_endpoints ADD CONSTRAINT verified_endpoints_endpoint_id_fkey
FOREIGN KEY (endpoint_id) REFERENCES endpoints (id) ON DELETE CASCADE NOT VALID;
ALTER TABLE benchmark_results ADD CONSTRAINT benchmark_results_model_id_fkey
FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE SET NULL NOT VALID;
