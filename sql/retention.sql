-- What must stay: every batch with the worst that needs it (kept_for) and the way there. Null: nothing that is kept needs it. The counts are ways
-- to deployments in force, to model versions that none serves, training sets of which no model is known, and holds. kept_by('…') tells of one thing.
SELECT r.batch, b.feature_view, b.version, b.sequence, r.kept_for, r.deployments, r.model_versions, r.training_sets, r.path, r.holds
FROM state_retention r JOIN state_batches b ON b.batch = r.batch
ORDER BY CASE r.kept_for WHEN 'hold' THEN 0 WHEN 'deployment' THEN 1 WHEN 'model_version' THEN 2 WHEN 'training_set' THEN 3 ELSE 4 END,
         b.sequence, r.batch
