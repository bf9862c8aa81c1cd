"""Every system call of one charge and of one reconciliation, made to fail: `python -m tests.syscalls`."""
