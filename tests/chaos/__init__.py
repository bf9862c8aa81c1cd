"""The campaign of chaos: workers, callers and PostgreSQL itself are killed while the provider fails, and it is judged.

`python -m tests.chaos 10` runs it for ten minutes. `plan.py` says what happens, `play.py` how it goes, `judge.py` what
must hold. `yard.py` has the processes: `paycli`, PostgreSQL, and (forked by `parent.py`) callers, who do what
`caller.py` says; the provider is one of its own, `provider.py`.
"""
