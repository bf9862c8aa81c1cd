"""`python -m tests.mutants.under_test NAME` runs the test that is named for a mutant on it. Exits as pytest does."""

from __future__ import annotations

import sys

import pytest

from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import mutate

if __name__ == "__main__":
    (MUTANT,) = (one for one in MUTANTS if one.name == sys.argv[1])
    mutate(MUTANT)
    sys.exit(pytest.main(["-q", "-rf", "-p", "no:cacheprovider", "-p", "no:xdist", str(MUTANT.test)]))
