-- Every ingested batch, and every one that was refused whole.
SELECT project, feature_view, version, batch, status, "rows", rejected, known_at, digest, sequence, committed_at,
       principal, program, run, experiment
FROM state_batches
ORDER BY sequence, feature_view, batch
