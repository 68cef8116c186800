-- The features of the feature views in force.
SELECT f.project, f.feature_view, f.version, f.feature, f.type, f.unit, f.accepted, f.nullable, f.default_value,
       f.description, f.owner, f.tags
FROM state_features f
JOIN state_versions v ON v.project = f.project AND v.feature_view = f.feature_view AND v.version = f.version
WHERE v.in_force
ORDER BY f.project, f.feature_view, f.feature
