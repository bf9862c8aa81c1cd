"""Read what PostgreSQL, a pooler or libpq refuses, by SQLSTATE or by words: why it is so, and whether it passes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from gateway_client import connections
from gateway_client.errors import ConfigurationError

LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S = 5, 30

_AGAIN = ("40001", "40P01", "23505", "42P07")  # serialization, deadlock; a row or a table that another made first
_EXPLANATIONS = {
    "55P03": f"a row stayed locked for {LOCK_TIMEOUT_S} s: another transaction is open on it, perhaps one with a "
    "`prepare` that is not committed yet",
    "57014": f"a statement took longer than {STATEMENT_TIMEOUT_S} s",
    "53100": "its disk is full",
    "53300": "it has too many connections",
    "53": "it is out of resources",
    "57P": "it is shutting down or starting up",
    "08": "the connection was lost",
    "25006": "it is read-only (a replica?)",
    "25001": connections.AMID,
    "25P02": connections.AMID,
    "25P": "it ended a transaction that took too long",
    "0A000": "it lacks what a store needs of it: a replica, or not a PostgreSQL",
    "28": "it refused the user or password of PAYCLI_DATABASE_URL",
    "3D000": "there is no such database",
    "42501": "this user may not use its tables",
    "40": "it was too busy with other transactions on the same rows",
    "58": "its disk reported an error",
    "XX": "it reported an internal error, or damaged data",
}


# What refuses a new connection has no code, only words; those of PostgreSQL, of poolers and of libpq.
_REFUSALS = {  # in this order: "too many connections for role", "the database system is shutting down"
    "too many": _EXPLANATIONS["53300"],
    "connection slots": _EXPLANATIONS["53300"],
    "system is": _EXPLANATIONS["57P"],
    "authentication failed": _EXPLANATIONS["28"],
    "no password supplied": "it asks for a password, and PAYCLI_DATABASE_URL has none",
    "no pg_hba.conf entry": "its pg_hba.conf lets nobody in from here with that user and database",
    "role ": "it has no such user",
    "database ": _EXPLANATIONS["3D000"],
    "resolve": "its host has no address",
    "refused": "nothing answers at its address",
    "unreachable": "nothing answers at its address",
    "not support ssl": "it has no TLS, and sslmode asks for it",
    "session is read-only": _EXPLANATIONS["25006"],
    "timeout": "it does not answer",
}


def explained(error: DBAPIError) -> str | None:
    """Why the database refuses, in words for the person who must act; None for a bug of ours."""
    state = getattr(error.orig, "sqlstate", None) or ""
    known = next((why for code, why in _EXPLANATIONS.items() if state.startswith(code)), None)
    if known is not None or (state and not lost(error)):
        return known
    said = str(error.orig).lower()
    if lost(error):
        return "the connection was lost, or it stopped answering"
    return next((why for words, why in _REFUSALS.items() if words in said), "it cannot be reached")


def parameters() -> Sequence[str]:
    """The names of the parameters that libpq knows."""
    try:
        from psycopg.pq import Conninfo
    except ImportError:
        raise ConfigurationError("PostgreSQL needs psycopg: pip install 'charge-once[postgres]'") from None
    return [option.keyword.decode() for option in Conninfo.get_defaults()]


def lacks_tables(error: DBAPIError) -> bool:
    """Whether what is missing is our tables."""
    return getattr(error.orig, "sqlstate", None) == "42P01"


# What libpq, psycopg and the server say of a value that no other try mends; it names its parameter, or "" is in it.
_REFUSED_VALUES = {
    r'invalid "?(\w+)"? value: ': "",
    r'invalid integer value ".*" for connection option "(\w+)"': "",
    r'invalid value for parameter "(\w+)"': "",
    r"bad value for (\w+):": "",
    r"weak (sslmode) ": "",
    r"invalid command-line argument|unrecognized configuration parameter": "options",
    r"could not parse network address|host names with \d+ hostaddr values": "hostaddr",
    r"definition of service|service file": "service",
    r"root certificate file": "sslrootcert",
    r"certificate file|certificate present": "sslcert",
    r"private key file": "sslkey",
}


def wrong_setting(error: DBAPIError) -> str | None:
    """Which parameter of its URL has a value that is refused, so that another try would not help; or None."""
    if getattr(error.orig, "sqlstate", None):  # a statement's: connecting has no code
        return None
    for pattern, name in _REFUSED_VALUES.items():
        found = re.search(pattern, str(error.orig))
        if found is not None:
            named = name or found[1]
            where = named if named in parameters() else "options"  # a server's own setting is given there
            return f"has a value of the parameter {where} that is refused (or the environment has one, by libpq's PG…)"
    return None


def passes(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it is done again."""
    return getattr(error.orig, "sqlstate", None) in _AGAIN


def waits(error: DBAPIError) -> bool:
    """Whether another transaction's lock was not waited for as long as it may be."""
    return getattr(error.orig, "sqlstate", None) == "55P03"


def lost(error: DBAPIError) -> bool:
    """Whether the connection is gone."""
    return error.connection_invalidated
