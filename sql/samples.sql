-- What was profiled of that which passed by: a share of the entities whose features were retrieved (`reads`) or whose rows came by
-- streams (`streams`), with the verdict against the baseline. `passed` rows passed by from `from_time` to `until_time`, and `rows` of them
-- are of entities in the share.
SELECT sample, project, feature_view, version, kind, share, passed, "rows", verdict, findings, checks, baseline_batches, baseline_rows, drift,
       from_time, until_time, sequence, committed_at, principal, program
FROM state_samples
ORDER BY sequence, feature_view, version, kind
