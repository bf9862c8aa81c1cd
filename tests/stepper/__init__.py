"""The stepper: store functions on two or three sessions of a real PostgreSQL, statement by statement, in every order.

Each actor is a process in effect: a thread with a `Database` of its own, so that the begin of a transaction, its
lock, its retries, its savepoints and its commit are the library's. Before each statement and before each commit the
actor waits for the scheduler, which lets one at a time do one step. Whom another one's lock blocks, PostgreSQL is
asked (`pg_blocking_pids`); he goes on when he is released. All orders are walked depth first, each from the start on
fresh rows; of orders that differ only in steps which cannot touch each other (different tables; what is read beside
what is not committed) one is walked. Of three actors those orders are walked in which, two times at most, somebody
goes on although who did the step before could; of two all are.
Each end is judged by the rows themselves: at most one live attempt of an intent, a history without gaps, every outcome
on its send or in a finding, a revision for each write. And rows, results and errors must be those of the same
functions done one after the other in **some** order, which the stepper does as well.

    ground.py    the database: rows before a run, rows after it, who is blocked
    touch.py     what a statement reads, writes and locks, and which of two may change places
    session.py   one actor; play.py  one order of steps; explore.py  every order
    scenes.py    what is there when it begins; doing.py, makers.py, acts.py  the store functions
    cases.py     which of them together; bench.py, runner.py  case after case
    judge.py     what must hold; plants.py  mistakes that must be found

`python -m tests.stepper` runs it.
"""
