-- Which combination of feature versions gave which metrics: a row for each run, training set that it used, and metric.
SELECT s.feature_versions, s.features, m.name AS metric, m."value", u.role, u.run, r.experiment, u.training_set
FROM (SELECT training_set, run, CASE WHEN count(*) FILTER (WHERE role <> 'unknown') = 0 THEN 'unknown'
                                     ELSE string_agg(role, ', ' ORDER BY role) FILTER (WHERE role <> 'unknown') END AS role
      FROM state_uses GROUP BY training_set, run) u
JOIN (SELECT training_set, string_agg(view_version, ', ' ORDER BY view_version) AS feature_versions,
             string_agg(features, '; ' ORDER BY view_version) AS features
      FROM (SELECT DISTINCT training_set, view_version, view_version || ': ' || features AS features FROM state_selected)
      GROUP BY training_set) s ON s.training_set = u.training_set
JOIN state_runs r ON r.run = u.run
LEFT JOIN state_run_metrics m ON m.run = u.run
ORDER BY feature_versions, run, metric
