-- Every replay of a training set, and whether it gave the same content.
SELECT training_set, verdict, digest, sequence, committed_at, principal, program
FROM state_verifications
ORDER BY sequence
