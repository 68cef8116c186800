-- What was decided, by whom and why: definitions applied and described, batches and versions withdrawn and restored, quarantined batches released and
-- dropped, holds placed and lifted, deprecations announced, closed, withdrawn and revoked, plans proposed, approved and declined, policies
-- applied and lifted, entities erased, how long things are kept. `subject` is how people call what it is about, `id` its own name.
SELECT kind, subject_kind, subject, id, reason, sequence, committed_at, principal, program, run, experiment
FROM state_decisions
ORDER BY sequence, kind, subject, id
