-- The feature views in force, one row each.
SELECT project, feature_view, version, entity, keys, ttl, known_at, features, batches, "rows", description, owner, tags,
       hypothesis
FROM state_versions
WHERE in_force
ORDER BY project, feature_view
