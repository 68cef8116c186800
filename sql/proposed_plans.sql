-- Plans that break those who read something and wait, or waited, for somebody else's approval: what they change, who proposed them and why, whose
-- approval they have, and where they were applied.
SELECT plan, changes, reason, approved_by, declined_by, CAST(applied_at_sequence AS BIGINT UNSIGNED) AS applied_at_sequence,
       sequence, committed_at, principal, program, run, experiment
FROM state_proposed_plans
ORDER BY sequence, plan
