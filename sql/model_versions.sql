-- Model versions as last seen, with the run that made each.
SELECT model_version, model, name, version, run, created_at, status, lifecycle, external_id, system, authority
FROM state_model_versions
ORDER BY name, model_version
