-- Entities, each version of them: what features describe.
SELECT project, entity, version, keys, description, owner, tags, sequence, committed_at, principal
FROM state_entities
ORDER BY project, entity, version
