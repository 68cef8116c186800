-- Rows that went by the retention of their view. `expired`: those that are valid before `before` do not count from that sequence on, for the
-- view's definition keeps rows for `keep`. `deleted`: of so many `batches` they are gone, also from earlier snapshots.
SELECT feature_view, what, "before", keep, CAST(batches AS BIGINT UNSIGNED) AS batches,
       sequence, committed_at, principal, program, run, experiment
FROM state_expirations
ORDER BY sequence, what, feature_view, "before"
