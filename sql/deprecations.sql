-- What will go and what went: a version, a feature view with all its versions, or a feature service. `stage` is `announced`, `closed` (to new
-- training sets), `withdrawn` or `revoked`; the dates are those that were announced, the sequences those at which each step was taken.
SELECT subject, kind, stage, reason, closed_at, withdrawn_at, instead,
       CAST(closed_at_sequence AS BIGINT UNSIGNED) AS closed_at_sequence,
       CAST(withdrawn_at_sequence AS BIGINT UNSIGNED) AS withdrawn_at_sequence,
       CAST(revoked_at_sequence AS BIGINT UNSIGNED) AS revoked_at_sequence,
       revoked_for, deprecation, sequence, committed_at, principal, program, run, experiment
FROM state_deprecations
ORDER BY sequence, deprecation
