"""Which requests are served traffic: those that are billed, and that a recorded trace repeats. Pure.

By `outcomes`: what was answered, late or not, and of a client that hung up what it had been sent by then, which the
engine did for it. A request that the engine or we refused, that the engine broke off, or that we cut is nobody's bill:
what it cost is part of what the others' tokens cost.
"""

from __future__ import annotations

from controlplane.domain.door.outcomes import ANSWERED, Outcome, read_outcome
from controlplane.domain.door.routing import GatewayRecord

SERVED_TRAFFIC = ANSWERED | {Outcome.LEFT_EARLY, Outcome.LEFT_LATE}


def was_served(record: GatewayRecord) -> bool:
    """Say whether a request was served; whether it met its limits is not asked."""
    return read_outcome(record, ()).outcome in SERVED_TRAFFIC
