"""The story, without I/O: generators that yield effects (`effects.py`) and receive their results from a driver.

`charging.py` claims, sends and settles; `resuming.py` does so for all pending ones; `clearing.py` takes attempts back;
`lookup.py` finds or proves absent; `asking.py` asks whose credential this is.
"""
