-- The scoreboard: verdicts by version and week of arrival. `unjudged` batches were written while their view declared no checks; `age_hours` is the
-- greatest time from the last observation of a batch to its arrival; `drift` the greatest population stability index; `rejected` has the rows
-- of `refused` batches too, which are none of `batches`; lineage is complete where the columns of all derived batches were traced.
SELECT project, feature_view, version, week, batches, passed, warned, failed, unjudged, quarantined, "rows", rejected, drift, age_hours,
       refused, untraced, untraced = 0 AS lineage_complete, last_batch_at
FROM state_scores
ORDER BY project, feature_view, version, week
