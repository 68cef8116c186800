-- Which neighbouring batches were written anew into files of their own, from the first to the last. One that a later one wrote anew again
-- is not in force any more: no file of it is read.
SELECT compaction, project, feature_view, version, first_batch, last_batch, batches, "rows", replaces, in_force,
       CAST(replaced_at_sequence AS BIGINT UNSIGNED) AS replaced_at_sequence,
       sequence, committed_at, principal, program, run, experiment
FROM state_compactions
ORDER BY sequence
