-- What must stay because somebody says so, with all that it needs: a batch, a version of a feature view, a training set, a model version. A
-- hold that was lifted is told of too, with who lifted it and why.
SELECT hold, kind, id, reason, in_force, lifted_by, lifted_for, CAST(lifted_at_sequence AS BIGINT UNSIGNED) AS lifted_at_sequence,
       sequence, committed_at, principal, program, run, experiment
FROM state_holds
ORDER BY sequence, hold
