-- The columns of recorded training sets, in their order: the spine's, then the features, each with the version that it is of, then where it was asked
-- for the columns that say why a feature is null. Null cells are counted by reason.
SELECT training_set, "position", name, type, kind, reference, view_version, feature, null_cells, null_reasons, defaulted, digest
FROM state_set_columns
ORDER BY training_set, "position"
