-- Parameters of runs; truncated where the other system has cut the value.
SELECT run, name, "value", truncated
FROM state_run_params
ORDER BY run, name
