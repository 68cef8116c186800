-- Every recorded read of features: who asked what, at which snapshot, and whether its columns could be traced (status complete or refused).
-- Reads wait in their process for its next flush and show here after it. What an earlier version recorded has no status. What was denied was
-- not read: access_decisions has it. Who sees less than others read is not told their statements, nor how much they found.
SELECT read, at, principal, program, run, experiment, sequence, sql AS statement, parameters, "columns",
       array_to_string(filters, '; ') AS filters, array_to_string(functions, ', ') AS functions,
       "rows", micros, error, status, CASE WHEN node IS NULL THEN reason ELSE node || ': ' || reason END AS reason, kind,
       roles, purpose, policies
FROM state_reads
WHERE status IS DISTINCT FROM 'denied'
ORDER BY at, read
