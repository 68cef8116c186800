-- Feature services, each version of them.
SELECT project, feature_service, version, features, description, owner, tags, sequence, committed_at, principal
FROM state_services
ORDER BY project, feature_service, version
