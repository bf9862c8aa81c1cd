"""The campaign of kills: real clients, workers and reconcilers ended by SIGKILL, thousands of them, and judged.

`python -m tests.kills 2000` runs it. `plan.py` says what a batch does, `play.py` how it goes, `judge.py` what must
hold; `actor.py` is what a process does.
"""
