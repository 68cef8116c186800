-- References that lead nowhere, as far as the log tells, worst first: by what stands on them. `lineament reconcile` looks at the objects too.
SELECT kind, id, problem, since, blocks
FROM state_dangling
ORDER BY CASE blocks WHEN 'deployment' THEN 1 WHEN 'model_version' THEN 2 WHEN 'training_set' THEN 3 ELSE 4 END,
         since NULLS FIRST, kind, id, problem
