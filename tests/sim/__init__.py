"""The simulator: the real flows, store, sandbox and nightly run in seeded schedules of trouble, judged by a ghost.

    decisions.py    whatever goes otherwise than smoothly, by the name of its moment: drawn from a seed, or given
    weather.py      what a seed makes likely
    happenings.py   the calls of a schedule, and what people and machines do to it
    plots.py        openings to the edges; unkind_plots.py: to those of the unkind world; steps.py: their words
    hosts.py        machines with clocks of their own; a process is a real client
    provider.py     the sandbox model, with short pages and late lists
    network.py      the way of requests and answers: doubled, held, boxes, exchanged, leftovers; transit.py: of one
    memory.py       a real SQLite in memory, past SQLAlchemy's layers; on_disk.py: the library's own, in a file
    kept.py         schedules that once failed; rare.py: that show what few seeds show
    call.py         one call, effect by effect; worker.py: a worker, with its leases or without any
    world.py        the true time and what is due next; doing.py: what happens; healing.py: how it comes to rest
    witness.py      sees what leaves a host, comes back or is committed; ghost.py: the ledger it keeps
    safety.py       what must hold at every step; shift.py: of a worker; liveness.py: after the faults
    sometimes.py    what must have been seen
    campaign.py     many schedules; shrink.py: a failing one made short; determinism.py: on every interpreter

`python -m tests.sim COUNT --seed FIRST` runs it.
"""
