-- Metrics of runs, each as last seen.
SELECT run, name, "value"
FROM state_run_metrics
ORDER BY run, name
