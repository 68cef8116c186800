-- Which run used which training set, what for, and how that is known.
SELECT training_set, run, role, how, at, external_id, system, authority
FROM state_uses
ORDER BY at, training_set, run, role
