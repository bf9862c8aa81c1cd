"""All mutants, by area."""

from tests.mutants import absence, attempts, keys, outcomes, reconciling, sending, settling, working

MUTANTS = (
    *keys.MUTANTS,
    *sending.MUTANTS,
    *outcomes.MUTANTS,
    *attempts.MUTANTS,
    *absence.MUTANTS,
    *settling.MUTANTS,
    *working.MUTANTS,
    *reconciling.MUTANTS,
)
