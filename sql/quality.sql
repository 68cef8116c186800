-- Verdicts by version and week of arrival. `unjudged` batches were written while their view declared no checks; `age_hours` is the
-- greatest time from the last observation of a batch to its arrival; `drift` the greatest population stability index.
SELECT project, feature_view, version, date_trunc('week', committed_at) AS week,
       count(*) AS batches,
       count(*) FILTER (WHERE verdict = 'pass') AS passed,
       count(*) FILTER (WHERE verdict = 'warn') AS warned,
       count(*) FILTER (WHERE verdict = 'fail') AS failed,
       count(*) FILTER (WHERE verdict IS NULL) AS unjudged,
       count(*) FILTER (WHERE status = 'quarantined') AS quarantined,
       sum("rows") AS "rows", sum(rejected) AS rejected, max(drift) AS drift, max(age_hours) AS age_hours
FROM state_judged
GROUP BY project, feature_view, version, date_trunc('week', committed_at)
ORDER BY project, feature_view, version, week
