-- Passes over tracking servers: when each was asked, how much it had, and how much it had no more.
SELECT system, authority, checked_at, found, gone, sequence
FROM state_passes
ORDER BY sequence
