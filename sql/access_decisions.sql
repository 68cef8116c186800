-- What was decided of what was asked, where policies were in force: every read of features, every training set and its replays, everything that
-- policies may deny and that stands in the log, and all that was denied. `policies` is the number of the policies that decided, of what the log has
-- those in force before its entry; access('…', principal => '…') says what they decide, and why. Roles and purposes of what the log has are not on
-- record. Reads and denials show after their next flush.
SELECT d.at, d.principal, d.roles, d.purpose, d.action, d.asked, d.decision, d.why, d.policies, d.id, d.sequence, d.program, d.run, d.experiment
FROM (SELECT at, principal, roles, purpose, coalesce(action, 'read') AS action, "columns" AS asked,
             CASE status WHEN 'denied' THEN 'denied' ELSE 'allowed' END AS decision,
             CASE status WHEN 'denied' THEN error END AS why, policies, read AS id, sequence, program, run, experiment
      FROM state_reads
      UNION ALL
      SELECT e.committed_at, e.principal, NULL, NULL, e.action, e.asked, 'allowed', NULL, p.number, e.id, e.sequence, e.program, e.run, e.experiment
      FROM (SELECT 'read' AS action, name AS asked, training_set AS id, committed_at, principal, sequence, program, run, experiment
            FROM state_training_sets
            UNION ALL
            SELECT 'read', training_set, training_set AS id, committed_at, principal, sequence, program, run, experiment FROM state_verifications
            UNION ALL
            SELECT 'ingest', b.feature_view || '@' || b.version, b.batch, b.committed_at, b.principal, b.sequence, b.program, b.run, b.experiment
            FROM state_batches b LEFT JOIN state_quarantine q ON b.batch = q.batch
            WHERE q.batch IS NULL
            UNION ALL
            SELECT 'ingest', feature_view || '@' || version, batch, committed_at, principal, sequence, program, run, experiment FROM state_quarantine
            UNION ALL
            SELECT 'withdraw', feature_view, NULL, committed_at, principal, sequence, program, run, experiment
            FROM state_expirations WHERE what = 'expired'
            UNION ALL
            SELECT action, asked, id, committed_at, principal, sequence, program, run, experiment FROM state_decisions WHERE action IS NOT NULL) e
      JOIN (SELECT DISTINCT number, sequence AS since, "until" FROM state_policies WHERE file IS NOT NULL) p
        ON e.sequence > p.since AND (p."until" IS NULL OR e.sequence <= p."until")) d
WHERE d.policies IS NOT NULL
ORDER BY d.at, d.asked, d.id
