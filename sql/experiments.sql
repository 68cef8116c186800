-- Experiments as last seen.
SELECT e.experiment, e.name, e.hypothesis, e.owner, e.lifecycle, count(DISTINCT r.run) AS runs,
       count(DISTINCT u.training_set) AS training_sets, max(r.started_at) AS last_run_at, e.external_id, e.system, e.authority
FROM state_experiments e
LEFT JOIN state_runs r ON r.experiment = e.experiment
LEFT JOIN state_uses u ON u.run = r.run
GROUP BY e.experiment, e.name, e.hypothesis, e.owner, e.lifecycle, e.external_id, e.system, e.authority
ORDER BY experiment
