"""What a power cut leaves of the store at any moment, and what becomes of it: `python -m tests.powercut`."""
