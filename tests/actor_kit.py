"""What tests of actors share: who these tests run as, and what may be claimed of them."""

from __future__ import annotations

import os
import pwd
import socket

from sqlalchemy import make_url

HOST = socket.gethostname()
CLAIMS = ("SUDO_USER", "LOGNAME", "USER")


def name() -> str:
    """The real user of these tests, by the system's list."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def known(url: str = "sqlite://") -> str:
    """Who these tests are, as a store of that URL knows it."""
    user = make_url(url).username
    return f"{name()}@{HOST}" + (f", database user {user}" if user else "")
