"""The story, without I/O: generators that yield effects (`effects.py`) and receive their results from a driver.

`charging.py` claims, sends and settles; `resuming.py` does so for all pending ones; `clearing.py` takes attempts back;
`lookup.py` finds or proves absent; `asking.py` asks whose credential this is.
"""

from gateway_client.flow.asking import Setup, bind_flow
from gateway_client.flow.charging import charge_flow, prepare_flow
from gateway_client.flow.clearing import cancel_flow
from gateway_client.flow.resuming import resume_flow

__all__ = ["Setup", "bind_flow", "cancel_flow", "charge_flow", "prepare_flow", "resume_flow"]
