-- Spines that clients put up, by the digest that they are asked for by: whether one is kept still, the first training set that was made of
-- it, which keeps it for ever, and the entry by which it was put up last. Digest, rows and bytes are null for who neither put it up nor is
-- told the digest of that set.
SELECT spine, "rows", bytes, path, "kept", training_set,
       CAST(dropped_at_sequence AS BIGINT UNSIGNED) AS dropped_at_sequence,
       sequence, committed_at, principal, program, run, experiment
FROM state_spines
ORDER BY sequence
