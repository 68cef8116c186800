-- The scoreboard of model versions: of the batches that the training sets of its run had rows of, each once. One of which no training set is
-- known has a row without a view, and its lineage is not complete.
SELECT model_version, name, label, project, feature_view, version, week, batches, passed, warned, failed, unjudged, quarantined, "rows",
       rejected, drift, age_hours, refused, untraced, untraced = 0 AND feature_view IS NOT NULL AS lineage_complete, last_batch_at
FROM state_model_scores
ORDER BY label, model_version, project, feature_view, version, week
