"""Mutants: the protocol with one mistake in it, each named for the mistake. The simulator has to notice every one,
and a test those that need real threads and transactions.

    mutant.py       what a mutant is, and how one is put in place of the module
    keys.py         mistakes about keys, bodies and whose store this is
    sending.py      about what is on disk before a send, and about the time that a key lives
    outcomes.py     about what an answer proves
    attempts.py     about doubt, the next attempt and giving up
    absence.py      about looking up, and about proving that nothing was charged
    settling.py     about what is written down, and what is done with what is pending
    working.py      about workers, their leases and their pace
    grouping.py     about grouped commits
    reconciling.py  about the nightly run
    listed.py       all of them
    runner.py       schedules of the simulator on mutants, on all cores
    under_test.py   the test that is named for a mutant, on that mutant: where no schedule goes
    seen.py         the seed at which each was last seen, which is tried first

`python -m tests.mutants [NAME …]` kills them and says how many seeds it took; `--record` writes down where each was
seen, `--search` begins at seed 0 all the same; `--rates` counts how often the bugs of FAULTS §3 show. A mutant that
survives means a missing check: the check is added, the mutant stays.
"""
