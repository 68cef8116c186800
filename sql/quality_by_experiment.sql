-- The scoreboard of experiments: of the batches that were written for one (`wrote`), and of those that the training sets of its runs had rows of (`used`).
SELECT experiment, name, role, project, feature_view, version, week, batches, passed, warned, failed, unjudged, quarantined, "rows", rejected,
       drift, age_hours, refused, untraced, untraced = 0 AS lineage_complete, last_batch_at
FROM state_experiment_scores
ORDER BY name, experiment, role, project, feature_view, version, week
