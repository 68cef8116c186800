-- What served when; until is null for what serves now.
SELECT name, environment, version, "from", until, service, endpoint, evidence, deployment, model_version
FROM state_deployments
ORDER BY "from", name, environment
