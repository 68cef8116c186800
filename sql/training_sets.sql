-- Recorded training sets; each can be rebuilt from its id.
SELECT training_set, name, snapshot, "rows", "columns", digest, sequence, committed_at, principal, program, run, experiment
FROM state_training_sets
ORDER BY sequence
