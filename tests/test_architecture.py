"""The imports run one way, read from the source of every module. What the modules do is not looked at here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_client
from gateway_client import errors

ROOT = Path(__file__).resolve().parent.parent

# A package may import itself and those after it.
LAYERS = ("cli", "reconcile", "gateway_client")

# The shells, each after those it may import: they do I/O, look at clocks, or gather the others. Every other file of the
# library and of the nightly run is pure, new ones too.
SHELL_ORDER = (
    "gateway_client.on_demand",  # threads and forks wait for it
    "gateway_client.actor",  # the user, the machine and the environment
    "gateway_client.telemetry",
    "gateway_client.clock",  # time, sleep and chance
    "gateway_client.waiting",
    "gateway_client.sockets",  # the connection of one exchange
    "gateway_client.http1",
    "gateway_client.foreign",  # a caller's own transport
    "gateway_client.wire",  # HTTP
    "gateway_client.gateways.stripe",  # `from_env` reads the environment; what it sends is in stripe_api.py
    "gateway_client.columns",
    "gateway_client.row_writes",
    "gateway_client.transaction",  # the machine's time, for those who ask no provider
    "gateway_client.tables",
    "gateway_client.deadline",
    "gateway_client.migrations.versions.v0001_tables",
    "gateway_client.schema",
    "gateway_client.connections",
    "gateway_client.intake",
    "gateway_client.database_url",
    "gateway_client.sqlite",
    "gateway_client.postgres_errors",
    "gateway_client.postgres",
    "gateway_client.backends",
    "gateway_client.group_commit",  # the lock of the writer
    "gateway_client.group_transaction",
    "gateway_client.db",
    "gateway_client.async_db",
    "gateway_client.condition",
    "gateway_client.store.registry",
    "gateway_client.store.rows",
    "gateway_client.store.findings",
    "gateway_client.store.reading",
    "gateway_client.store.facts",
    "gateway_client.store.leases",
    "gateway_client.store.gate",
    "gateway_client.store.attempts",
    "gateway_client.store.claim",
    "gateway_client.store.upon",
    "gateway_client.store.settle",
    "gateway_client.store.performing",
    "gateway_client.store",
    "gateway_client.sandbox.transport",
    "gateway_client.sandbox.server",
    "gateway_client.sandbox.sandbox",  # holds the lock and the wall clock
    "gateway_client.sandbox",  # the public names
    "gateway_client.driver",
    "gateway_client.client",
    "gateway_client.async_client",
    "gateway_client.worker",
    "gateway_client",  # the public names
    "reconcile.store.ages",
    "reconcile.store.sets",
    "reconcile.store.coverage",
    "reconcile.store.unreadable",
    "reconcile.store.agreed",
    "reconcile.store.parts",
    "reconcile.store.counts",
    "reconcile.store.lease",
    "reconcile.store.runs",
    "reconcile.store.forgetting",
    "reconcile.store.items",
    "reconcile.store.repairs",
    "reconcile.store.findings",
    "reconcile.store.alerts",
    "reconcile.store.told",
    "reconcile.store.performing",
    "reconcile.store",
    "reconcile.webhook",  # sockets
    "reconcile.job",
    "reconcile.missed",
    "reconcile",  # the public names
)
SHELLS = frozenset(SHELL_ORDER)

IMPURE = frozenset(
    (
        "sqlalchemy sqlmodel aiosqlite sqlite3 httpx typer rich "  # the database, the network, the terminal
        "asyncio threading time random secrets uuid os socket subprocess logging"
    ).split()
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))}
CORE = [name for name in MODULES if not name.startswith("cli") and name not in SHELLS]


def imports(name: str) -> Iterator[str]:
    """Every module that a module's source names, wherever the import stands; of `from a import b` both a and a.b."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            inner = [f"{source}.{alias.name}" for alias in node.names]
            # `from package import module` names the module; only another name needs the package's own file.
            yield from ((inner_name if inner_name in MODULES else source) for inner_name in inner)


def test_something_is_checked() -> None:
    """The modules are found: a moved folder must not turn these tests into nothing."""
    assert {"gateway_client.errors", "gateway_client.money", "gateway_client.intent", "reconcile"} <= set(MODULES)
    assert "gateway_client.intent" in CORE
    assert "gateway_client.money" in set(imports("gateway_client.intent"))


@pytest.mark.parametrize("name", MODULES)
def test_packages_import_one_way(name: str) -> None:
    """cli imports reconcile, reconcile imports gateway_client, and never the other way."""
    forbidden = LAYERS[: LAYERS.index(name.partition(".")[0])]
    assert [other for other in imports(name) if other.partition(".")[0] in (*forbidden, "tests")] == []


@pytest.mark.parametrize("name", CORE)
def test_core_is_pure(name: str) -> None:
    """Time, chance, the database and the network come into the core as arguments: it imports none of them."""
    assert [other for other in imports(name) if other.partition(".")[0] in IMPURE] == []


@pytest.mark.parametrize("name", CORE)
def test_core_imports_no_shell(name: str) -> None:
    """A shell may import the core; the core never imports a shell."""
    assert [other for other in imports(name) if other in SHELLS] == []


@pytest.mark.parametrize("name", SHELL_ORDER)
def test_shells_import_one_way(name: str) -> None:
    """Among the shells, too, imports run one way: from the clients down to the clock."""
    later = SHELL_ORDER[SHELL_ORDER.index(name) + 1 :]
    assert [other for other in imports(name) if other in later] == []


ON_DEMAND = ("gateway_client", "gateway_client.store", "reconcile")


def names_asked_for(name: str) -> Iterator[str]:
    """The names that a module takes from a package that imports them when they are asked for."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in ON_DEMAND:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (asked for asked in names if asked not in MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("cli")])
def test_modules_import_from_each_other_directly(name: str) -> None:
    """No module waits, amid its own import, for the lock of names that are imported when they are asked for."""
    assert list(names_asked_for(name)) == []


def test_every_exception_is_public() -> None:
    """Whatever a caller may have to catch is named where everything public is named."""
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert raised - set(gateway_client.__all__) == set()
