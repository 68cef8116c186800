-- Alerts and how far each is on its way to its sinks: waiting, sending, failed (it is tried again at again_at), delivered, dropped. An alert about a
-- view that the asker may not read is left out, and of one that they do not see whole summary and details are null.
SELECT alert, rule, condition, sink, status, attempts, again_at, ended_at, why, summary, causes, project, feature_view, CAST(version AS INT UNSIGNED) AS version,
       CAST(about AS BIGINT UNSIGNED) AS about, details, sequence, committed_at, principal, program
FROM state_alerts
ORDER BY sequence, alert, sink
