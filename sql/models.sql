-- Registered models as last seen.
SELECT m.model, m.name, m.lifecycle, count(v.model_version) AS versions, m.external_id, m.system, m.authority
FROM state_models m LEFT JOIN state_model_versions v ON v.model = m.model
GROUP BY m.model, m.name, m.lifecycle, m.external_id, m.system, m.authority
ORDER BY name, model
