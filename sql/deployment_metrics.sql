-- How deployments did, beside the model version that served then and the feature versions that it was trained on.
SELECT m.name, m.environment, m."from", m.until, m.version, m.metric, m."value", s.feature_versions
FROM state_measured m
LEFT JOIN (SELECT u.run, string_agg(DISTINCT t.view_version, ', ' ORDER BY t.view_version) AS feature_versions
           FROM state_uses u JOIN state_selected t ON t.training_set = u.training_set GROUP BY u.run) s ON s.run = m.run
ORDER BY m."from", m.name, m.environment, m.metric
