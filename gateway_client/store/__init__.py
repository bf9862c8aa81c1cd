"""Every SQL statement of the charging half. One function is one work in a Transaction; no network.

`perform` does a database effect by the function that says `@performs` of it. Opening, locking and committing are
`db.py`'s. Who only reads loads none of the statements that write.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway_client.store.performing import perform, send_ended
    from gateway_client.store.reading import read_attempts, read_history
else:
    from gateway_client.on_demand import on_demand

    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "perform": "gateway_client.store.performing",
            "read_attempts": "gateway_client.store.reading",
            "read_history": "gateway_client.store.reading",
            "send_ended": "gateway_client.store.performing",
        },
    )

__all__ = ["perform", "read_attempts", "read_history", "send_ended"]
