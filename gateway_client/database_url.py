"""Read the URL of a database, strictly; say what is wrong with it without repeating what could be part of a password.

A password with an unescaped character is read where a host, a database or a parameter stands. So nothing of a wrong URL
is repeated but its scheme and the name of a parameter. Not here: what a database must be like (`sqlite.py`,
`postgres.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import parse_qsl, unquote

from sqlalchemy import URL
from sqlalchemy.engine import make_url

from gateway_client.errors import ConfigurationError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9]{0,30})(\+[A-Za-z0-9_]{1,30})?://(.*)", re.DOTALL)
_SERVER = re.compile(r"(?:([^@]*)@)?([^/?@]*)(?:/([^?@]*))?(?:\?([^@]*))?", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9_.-]*|/[^@,]*|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?")  # /: a socket's folder
_NAME = re.compile(r"[a-z_]{1,40}")

_ODD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

_NO_URL = "is not a database URL; for example sqlite:///paycli.db"
_UNESCAPED = (
    "cannot be read: what is one of @ : / ? # in a user or password, and an @ anywhere else, must be escaped (@ is "
    "%40), as in postgresql+psycopg://user:p%40ss@host:5432/database"
)


def read(text: str) -> URL:
    """The parts of a URL; several hosts are kept as libpq names them. Raises ConfigurationError."""
    found = _read(text)
    if isinstance(found, str):
        raise wrong(found)
    return found


def wrong(problem: str) -> ConfigurationError:
    """The error of a URL; `problem` goes on after the name of its setting."""
    return ConfigurationError(f"PAYCLI_DATABASE_URL {problem}. Nothing was sent.")


def check_parameters(url: URL, known: Collection[str]) -> URL:
    """The URL of a server with its user and password in their own places. Raises ConfigurationError for others."""
    unknown = sorted(set(url.query) - set(known))
    if unknown:
        # After a password with an & in it, its end is read as a name.
        shown = _NAME.fullmatch(unknown[0]) and not any("pass" in name or "secret" in name for name in url.query)
        raise wrong(f"has a parameter that libpq does not know{f': {unknown[0]}' if shown else ''}")
    own = {name: str(url.query[name]) for name in ("user", "password") if name in url.query}
    url = url.difference_update_query(own)
    return url.set(username=own.get("user", url.username), password=own.get("password", url.password))


def hosts_of(url: URL) -> str:
    """The hosts and ports of a server's URL, for people."""
    hosts = str(url.query.get("host", url.host or "localhost")).split(",")
    ports = str(url.query.get("port", url.port or "")).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))


def _read(text: str) -> URL | str:
    """The parts of a URL, or what is wrong with it."""
    odd = _odd(text)
    if odd is not None:
        return odd
    parts = _SCHEME.fullmatch(text)
    if parts is None:
        return _NO_URL
    scheme, driver, rest = parts[1].lower(), (parts[2] or "").lower(), parts[3]
    if scheme == "sqlite":
        return _file(scheme + driver, rest)
    if scheme in ("postgresql", "postgres"):
        return _server("postgresql" + driver, rest)
    return f"is of {scheme}, which is not supported; use SQLite (sqlite:///paycli.db) or PostgreSQL"


def _odd(text: str) -> str | None:
    """What no URL has in it: it would be cut off, or be part of a name that nobody meant."""
    if text != text.strip() or _ODD.search(text):
        return "begins or ends with a space, or has a newline or another control character in it"
    try:
        return "has a NUL character (%00) in it" if "\0" in unquote(text, errors="strict") else None
    except UnicodeDecodeError:
        return "has a %-escape that is no UTF-8"


def _file(drivername: str, rest: str) -> URL | str:
    if rest and not rest.startswith("/"):
        return "names a host or a user, which a file has not: sqlite:///folder/paycli.db or sqlite:////srv/paycli.db"
    url = make_url(f"{drivername}://{rest}")
    if "?" in rest and not url.query:
        return "ends with a ? and no parameter"
    return url


def _server(drivername: str, rest: str) -> URL | str:
    parts = _SERVER.fullmatch(rest)
    if parts is None:
        return _UNESCAPED
    user, hosts, database = parts[1], parts[2], unquote(parts[3] or "")
    pieces = parts[4].split("&") if parts[4] else []
    pairs = parse_qsl("&".join(pieces))
    query = dict(pairs)
    if len(pairs) != len(pieces):
        return "has a parameter without a name or a value"
    if len(query) + max(sum(name == "host" for name, _ in pairs) - 1, 0) != len(pairs):
        return "has a parameter twice"
    hosted = _hosted(hosts, ",".join(value for name, value in pairs if name == "host"), query.pop("port", ""))
    query.pop("host", None)
    if hosted is None:
        return _UNESCAPED
    name, _, password = (user or "").partition(":")
    url = URL.create(
        drivername,
        username=None if user is None else unquote(name),
        password=unquote(password) or None,
        database=query.pop("dbname", "") or database or None,
        query=query,
    )
    names, ports = hosted
    if len(names) == 1:
        return url.set(host=names[0] or None, port=int(ports[0]) if ports[0] else None)
    several = {"host": ",".join(names), **({"port": ",".join(ports)} if any(ports) else {})}
    return url.update_query_dict(several)


def _hosted(hosts: str, given: str, port: str) -> tuple[list[str], list[str]] | None:
    """The hosts and the port of each ("": the usual one); None when one of them is none.

    `given`, a parameter's hosts, stand in the place of those before the path, as with libpq; the ports stay.
    """
    written = [(unquote(name), own) for name, own in map(_host_and_port, hosts.split(","))]
    found = list(map(_host_and_port, given.split(","))) if given else written
    names = [name for name, _ in found]
    ports = [own for _, own in found]
    if given and not any(ports) and len(written) == len(found):
        ports = [own for _, own in written]
    if port:
        ports = port.split(",") * (len(found) if "," not in port else 1)
    fine = len(ports) == len(names) and all(_HOST.fullmatch(name) for name in names)
    return (names, ports) if fine and all(_is_port(port) for port in ports) else None


def _host_and_port(host: str) -> tuple[str, str]:
    """An address in brackets or a name, and its port; a socket's folder and a bare IPv6 address have none."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return (name, port[1:]) if port[:1] in ("", ":") and ":" in name else ("[", "")
    if host.startswith("/") or host.count(":") > 1:
        return host, ""
    name, _, port = host.partition(":")
    return name, port


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536)
