"""What takes a key or a secret and refuses leaves it in no frame, cause or repr, which crash reporters send."""

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from cli.settings import read_settings
from gateway_client import AsyncClient, Client, ConfigurationError, InvalidInput, Stripe
from reconcile.webhook import check_secret, check_url, deliver
from tests.oracle_world import API_KEY, StillClock

CANARY = API_KEY.removeprefix("sk_test_")


def wrong_settings(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """What takes a key or a secret, with something wrong beside it or in it."""
    (folder / "binary").write_bytes(CANARY.encode() + b"\xff")
    (folder / "padded").write_text(f"{API_KEY} {API_KEY}")
    spilt = f"https://{CANARY}:{CANARY}@stripe.example.com"
    environments: tuple[dict[str, str], ...] = (
        {"STRIPE_API_KEY": API_KEY, "STRIPE_API_KEY_FILE": CANARY},
        {"STRIPE_API_KEY": API_KEY, "PAYCLI_STRIPE_ACCOUNT": "bad"},
        {"STRIPE_API_KEY": API_KEY, "PAYCLI_STRIPE_API_BASE": "ftp://host"},
        {"STRIPE_API_KEY": API_KEY, "PAYCLI_STRIPE_API_BASE": spilt},
        {"STRIPE_API_KEY": f"{API_KEY}é"},
        {"STRIPE_API_KEY_FILE": str(folder / "binary")},
        {"STRIPE_API_KEY_FILE": str(folder / "padded")},
        {"OTHER": CANARY},
    )
    yield "account", lambda: Stripe(API_KEY, account="bad")
    yield "account of another type", lambda: Stripe(API_KEY, account=cast("Any", 7))
    yield "base of another type", lambda: Stripe(API_KEY, api_base=cast("Any", 7))
    for base in ("http://example.com", "https://[", "https://host:x", "https://host/v2", spilt):
        yield base.replace(CANARY, ""), lambda base=base: Stripe(API_KEY, api_base=base)  # type: ignore[misc]
    yield "live", lambda: Stripe("sk_live_" + CANARY, api_base="https://stripe.example.com")
    for key in (API_KEY + " ", "pk_test_" + CANARY, cast("Any", API_KEY.encode())):
        yield "key", lambda key=key: Stripe(key)  # type: ignore[misc]
    for environ in environments:
        yield "environment", lambda environ=environ: Stripe.from_env(environ)  # type: ignore[misc]
    for url in (f"postgresql://u:p@{CANARY}@h/x", f"mysql://u:{CANARY}@h/x"):
        yield "client", lambda url=url: Client(Stripe(API_KEY), database=url)  # type: ignore[misc]
        yield "async client", lambda url=url: AsyncClient(Stripe(API_KEY), database=url)  # type: ignore[misc]
    for secret, more in ((CANARY[:10], {}), (CANARY * 4, {"namespace": "no spaces"})):
        for made in (Client, AsyncClient):
            yield (
                "seal",
                lambda made=made, secret=secret, more=more: made(  # type: ignore[misc]
                    Stripe(API_KEY), database=f"sqlite:///{CANARY}.db", seal_secret=secret, **more
                ),
            )
    right, wrong = f"http://u:{CANARY}@h:3128", f"http://u:{CANARY}@h:3128/path"
    for given in ({"proxy": wrong}, {"proxy": right, "namespace": ""}, {"proxy": right, "database": "mysql://h/x"}):
        more = {"database": "sqlite:///x.db", **given}
        yield "proxy", lambda more=more: Client(Stripe(API_KEY), **more)  # type: ignore[misc]
        yield "proxy, async", lambda more=more: AsyncClient(Stripe(API_KEY), **more)  # type: ignore[misc]
    own = httpx.HTTPTransport()
    yield "proxy and transport", lambda: Client(Stripe(API_KEY), database="sqlite:///x.db", proxy=right, transport=own)
    for proxy, other in ((wrong, {}), (right, {"PAYCLI_NAMESPACE": " "})):
        environ = {"PAYCLI_PROXY": proxy, **other}
        yield "setting", lambda environ=environ: read_settings(environ)  # type: ignore[misc]
    yield "secret", lambda: check_secret(CANARY[:10])
    yield "webhook", lambda: check_url(f"https://u:{CANARY}@host/path")
    for url, secret in ((f"http://example.com/{CANARY}", CANARY), ("https://host", f"{CANARY} ")):
        yield "delivery", lambda url=url, secret=secret: deliver(url, secret, [], clock=StillClock())  # type: ignore[misc]


def test_no_constructor_leaves_a_key_in_its_frames(tmp_path: Path) -> None:
    """E11: whatever takes a key or a secret and refuses leaves neither in a frame, a cause or a half-made repr."""
    for name, make in wrong_settings(tmp_path):
        with pytest.raises((ConfigurationError, InvalidInput)) as refused:
            make()
        error: BaseException | None = refused.value
        while error is not None:
            report = traceback.TracebackException.from_exception(error, capture_locals=True)
            report.stack = traceback.StackSummary.from_list(
                [frame for frame in report.stack if "tests" not in Path(frame.filename).parts]  # ours, not the caller's
            )
            assert report.stack != [], name
            told = "".join(line for frame in report.stack for line in (frame.locals or {}).values())
            assert [word for word in (CANARY, CANARY[:10], "repr() failed") if word in told + repr(error)] == [], name
            error = error.__context__ or error.__cause__


def test_a_half_made_gateway_has_a_repr() -> None:
    """E11: a gateway whose making failed can be shown, as a crash reporter does with the `self` of a frame."""
    assert repr(Stripe.__new__(Stripe)) == "Stripe(mode=None, base_url=None)"
