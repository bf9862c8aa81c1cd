"""The exhaustive search: every interleaving of two workers and the reconciler on one intent, with at most two faults.

Who: two workers, each one call (`charge`, or `resume`) in a process of its own, and the nightly run of the day. Flows
and statements are the real ones, the database is SQLite in memory, the provider is the sandbox. When all have ended,
fresh processes heal what is left: `resume` at once; `resume` and the nightly run after 25 hours, if need be after 30
and 101.
Steps: a transaction is one, a question is one, a send is two (it arrives; it is executed and answered). Between any
two of them anybody else may take steps, so the provider's own 409 comes of their order alone. What touches nothing
shared is done at once, faults and all: the question whose account it is, the pages that a run keeps for itself.
Faults, at every step of everybody: a process never begins, or dies after a transaction, with its send in flight, or
when that was executed; it does not start again. A commit fails, or is done and raises. A question is not answered, or
by a 503. A send is refused; lost; executed, and its answer lost; answered by a saved 500 (charged, left uncharged, or
nothing made), by 409, 429 or 503; held up, its connection broken, to arrive at any later time; executed at any time,
not waited for any more; delivered twice, one delivery executed at any time, the other answered by the provider's own
400 or 429, or by a box between that says 200 or 403. Whatever is concluded, and each further attempt, must be a line of
the table of evidence.
Time stands still: waits take none, no clock is wrong, nothing grows old. A call makes three sends, four after a 409.
One state is what differs only in which worker is which, in what is written for people and never read (history,
reasons, ids of requests), or in what a run that is gone has left in its own tables.
Not here: time that goes by between steps, cancellations by a person meanwhile, two nightly runs at once, lists that
lag or have more pages, locks of a real file. The simulator (`tests/sim`) has the most of these, at random.

    scenario.py  what is there when it begins, and who begins
    search.py    the states, each once; moves.py  what may happen next; checks.py  what must hold
    heal.py      what comes of the ends
    actors.py    flows, and how far they are; marks.py  which of these are the same; blind.py  what they look at
    contents.py  the database, from any contents to any other; ledger.py  the provider likewise

`python -m tests.exhaust` runs it.
"""
