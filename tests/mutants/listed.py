"""All mutants, by area."""

from tests.mutants import absence, attempts, grouping, keys, outcomes, reconciling, sending, settling, working

MUTANTS = (
    *keys.MUTANTS,
    *sending.MUTANTS,
    *outcomes.MUTANTS,
    *attempts.MUTANTS,
    *absence.MUTANTS,
    *settling.MUTANTS,
    *working.MUTANTS,
    *grouping.MUTANTS,
    *reconciling.MUTANTS,
)
