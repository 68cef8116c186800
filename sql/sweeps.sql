-- What was condemned: objects that no entry names and whose id is less than `before`, and data files that a compaction up to the sequence
-- `compacted` replaced. Objects and bytes are what was found of them before the entry was written, in all and by kind.
SELECT "before", CAST(compacted AS BIGINT UNSIGNED) AS compacted, grace, objects, bytes, kinds,
       sequence, committed_at, principal, program, run, experiment
FROM state_sweeps
ORDER BY sequence
