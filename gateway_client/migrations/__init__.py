"""The schema's history for Alembic, a file for each version. `schema.py` runs it: no `env.py`, no ini file."""
