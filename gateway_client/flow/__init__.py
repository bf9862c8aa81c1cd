"""The story, without I/O: generators that yield effects (`effects.py`) and receive their results from a driver.

`charging.py` claims, sends and settles; `asking.py` asks whose credential this is; `lookup.py` finds or proves absent.
"""

from gateway_client.flow.asking import Setup, bind_flow
from gateway_client.flow.charging import cancel_flow, charge_flow, prepare_flow, resume_flow

__all__ = ["Setup", "bind_flow", "cancel_flow", "charge_flow", "prepare_flow", "resume_flow"]
