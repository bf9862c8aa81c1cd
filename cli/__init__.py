"""The Typer app `paycli`: thin, one file for a group of commands, one place that prints. No rule of charging is here.

Nothing heavy is imported before a command runs: `paycli --help` loads neither SQLModel nor httpx.
"""
