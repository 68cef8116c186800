-- Every version of the policies, a row a file; one that was lifted has a row without. `until` is the sequence at which the next came.
SELECT number, file, policies, digest, reason, "until", sequence, committed_at, principal, program, run, experiment
FROM state_policies
ORDER BY number, file
