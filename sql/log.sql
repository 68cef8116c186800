-- The log: one row an entry.
SELECT sequence, committed_at, principal, program, run, experiment, records, digest
FROM state_log
ORDER BY sequence
