-- Runs as last seen.
SELECT r.run, r.experiment, r.parent_run, r.name, r.status, r.started_at, r.ended_at, r.lifecycle,
       count(DISTINCT u.training_set) AS training_sets, r.external_id, r.system, r.authority
FROM state_runs r LEFT JOIN state_uses u ON u.run = r.run
GROUP BY r.run, r.experiment, r.parent_run, r.name, r.status, r.started_at, r.ended_at, r.lifecycle, r.external_id,
         r.system, r.authority
ORDER BY run
