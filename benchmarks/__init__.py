"""Measure this library beside its peers on one machine: `python -m benchmarks`, or `make bench`.

Nothing here is installed or imported by the library. `docs/benchmarks.md` says what each row means.
"""
