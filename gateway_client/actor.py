"""Who changes a store: the user that the operating system knows, on this machine; with a server, the one it knows, too.

Anybody can set what the environment says of a user: it is kept as a claim, quoted and last, so that it can imitate
nothing. This is the only place that names an actor; `db.py` hands the name to each transaction that writes.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from functools import cache

_CLAIMS = ("SUDO_USER", "LOGNAME", "USER")
_CLAIM_LENGTH_MAX = 64


@cache
def name_of(uid: int) -> str:
    """Look a user's name up in the system's list; once, for that list may be on another machine."""
    try:
        return _plain(pwd.getpwuid(uid).pw_name)
    except KeyError:  # a container's user may have no name
        return f"uid {uid}"


def actor(database_user: str | None = None) -> str:
    """Name whoever runs this process, and as whom the database knows it: "billing@web-3, database user app"."""
    return described(os.getuid(), socket.gethostname(), os.environ, database_user)


def described(uid: int, host: str, environ: Mapping[str, str], database_user: str | None) -> str:
    """Describe a user in words: what is known of it, then what is only claimed."""
    name = name_of(uid)
    known = f"{name}@{_plain(host)}"
    if database_user is not None:
        known += f", database user {_plain(database_user)}"
    claims = dict.fromkeys(environ.get(variable, "")[:_CLAIM_LENGTH_MAX] for variable in _CLAIMS)
    other = " and ".join(ascii(claim) for claim in claims if claim and _plain(claim) != name)
    return f"{known}, claims to be {other}" if other else known


def _plain(text: str) -> str:
    """Printable ASCII: what a system calls by a name may be no text."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
