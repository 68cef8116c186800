-- Exact cells of every training set by the batch that they came from; a defaulted cell came from none.
SELECT training_set, view_version, features, batch, "rows", cells
FROM state_selected
WHERE batch IS NOT NULL
ORDER BY training_set, view_version, batch
