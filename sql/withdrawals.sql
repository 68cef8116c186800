-- Every batch and version that was withdrawn or restored, by whom and why. The last of each says whether it counts now.
SELECT project, feature_view, version, kind, id, what, reason, sequence, committed_at, principal, program, run, experiment
FROM state_withdrawals
ORDER BY sequence, kind, id
