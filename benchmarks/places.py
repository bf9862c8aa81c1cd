"""Make, copy, measure and drop the databases of a run: SQLite files, and databases of one PostgreSQL server.

Both lie on a real disk (`--folder`), and a commit is synced there: durability is what is measured. The server is the
tests' embedded one with other settings, or the one of `--postgres`.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, make_url

from tests.postgres import Server

SQLITE, POSTGRESQL = "sqlite", "postgresql"
KINDS = (SQLITE, POSTGRESQL)
LOG_MARK = "bench>"
# Room for 256 callers and more; the log says which database each statement is of.
SETTINGS = ("max_connections=400", "shared_buffers=256MB", "max_wal_size=2GB", f"log_line_prefix={LOG_MARK}%d ")


class Places:
    """Hold the folder and the server of one run; both go when it is closed."""

    def __init__(self, folder: Path | None = None, given: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="charge-once-bench-", dir=folder))
        self._numbers = itertools.count(1)
        self._server: Server | None = None
        self._server_folder: Path | None = None
        self._admin_url: URL | None = make_url(given) if given else None

    @property
    def log(self) -> Path | None:
        """Return the log of our own server, once there is one; None of a server that was given."""
        return None if self._server_folder is None else self._server_folder / "log"

    def fresh(self, kind: str | None) -> str | None:
        """Return the URL of a new, empty database of a kind; None of no kind."""
        if kind is None:
            return None
        if kind == SQLITE:
            return f"sqlite:///{self.folder / f'{next(self._numbers)}.db'}"
        name = self._new_name()
        self.execute(f"CREATE DATABASE {name}")
        return self._named(name)

    def copy(self, url: str) -> str:
        """Return the URL of a copy of a database that no one is connected to."""
        found = make_url(url)
        if found.get_backend_name() == SQLITE:
            made = self.fresh(SQLITE)
            assert made is not None
            shutil.copyfile(_file(found), _file(make_url(made)))
            _file(make_url(made)).chmod(0o600)
            return made
        name = self._new_name()
        self.execute(f"CREATE DATABASE {name} TEMPLATE {found.database}")
        return self._named(name)

    def drop(self, url: str | None) -> None:
        """Remove a database, whoever is connected to it."""
        if url is None:
            return
        found = make_url(url)
        if found.get_backend_name() == SQLITE:
            for end in ("", "-wal", "-shm"):
                Path(f"{_file(found)}{end}").unlink(missing_ok=True)
        else:
            self.execute(f"DROP DATABASE IF EXISTS {found.database} WITH (FORCE)")

    def size(self, url: str) -> int:
        """Return the bytes that a database takes on disk: a file with its log, or all files of a database."""
        found = make_url(url)
        if found.get_backend_name() == SQLITE:
            files = (Path(f"{_file(found)}{end}") for end in ("", "-wal"))
            return sum(file.stat().st_size for file in files if file.exists())
        return int(self.value(f"SELECT pg_database_size('{found.database}')"))

    def value(self, statement: str) -> Any:
        """Return the one value that a statement of an administrator finds."""
        engine = create_engine(self.admin_url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                return connection.exec_driver_sql(statement).scalar_one()
        finally:
            engine.dispose()

    def execute(self, statement: str) -> None:
        """Run one statement of an administrator."""
        engine = create_engine(self.admin_url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    @property
    def admin_url(self) -> URL:
        """Return the URL of the server's first database; our own server is made and started for the first caller."""
        if self._admin_url is None:
            self._server_folder = Path(tempfile.mkdtemp(prefix="charge-once-bench-pg-", dir=self.folder.parent))
            if os.geteuid() == 0:  # PostgreSQL refuses to run with root's rights
                owner = pwd.getpwnam("nobody")
                os.chown(self._server_folder, owner.pw_uid, owner.pw_gid)
            self._server = Server(self._server_folder, *SETTINGS)
            self._server.make()
            self._server.start()
            self._admin_url = self._server.url
        return self._admin_url

    def close(self) -> None:
        """Stop our server and remove every file of the run."""
        if self._server is not None:
            self._server.stop()
        for folder in (self.folder, self._server_folder):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _new_name(self) -> str:
        return f"bench_{os.getpid()}_{next(self._numbers)}"

    def _named(self, name: str) -> str:
        return self.admin_url.set(database=name).render_as_string(hide_password=False)


def kind_of(url: str | None) -> str | None:
    """Return the kind of a database by its URL; None of none."""
    return None if url is None else make_url(url).get_backend_name()


def _file(url: URL) -> Path:
    assert url.database is not None
    return Path(url.database)
