-- Every batch that was ever kept back, and what became of it.
SELECT project, feature_view, version, batch, "rows", status, reason, ended_by, ended_at_sequence, sequence, committed_at,
       principal, program, run, experiment
FROM state_quarantine
ORDER BY sequence, batch
