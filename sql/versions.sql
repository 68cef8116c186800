-- Every version of every feature view. Versions of one line share their batches.
SELECT project, feature_view, version, in_force, ttl, known_at, features, batches, "rows", line, digest, version_id,
       sequence, committed_at, principal, program, run, experiment, hypothesis
FROM state_versions
ORDER BY project, feature_view, version
