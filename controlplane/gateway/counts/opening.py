"""Where this gateway counts its limits."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime

from controlplane.domain.door.gateway_files import sums_path
from controlplane.gateway.answers.shared import open_redis
from controlplane.gateway.background import in_background
from controlplane.gateway.counts.kept import KeptSums
from controlplane.gateway.counts.lines import Counts
from controlplane.gateway.counts.local import LocalCounts
from controlplane.gateway.counts.shared import SharedCounts
from controlplane.gateway.settings import GatewaySettings
from controlplane.gateway.stages.limits import windows


async def open_counts(settings: GatewaySettings, stack: AsyncExitStack, clock: Callable[[], datetime]) -> Counts:
    """Count limits here, with the sums of days and months in a file; or in the Redis of several gateways."""
    if settings.limits_redis_url is None:
        local = LocalCounts(time.monotonic)
        kept = KeptSums(local, sums_path(settings.data_dir, settings.name))
        kept.load(windows(clock()))
        stack.push_async_callback(kept.save)
        await in_background(kept.run, stack)
        return local
    redis = open_redis(settings.limits_redis_url.get_secret_value(), settings.limits_answer_within_s, of="the limits")
    me, gone_after_s = f"{settings.name}:{uuid.uuid4().hex}", settings.limits_gone_after_s
    shared = SharedCounts(redis, me=me, monotonic=time.monotonic, gone_after_s=gone_after_s)
    stack.push_async_callback(shared.close)
    await shared.beat()
    await in_background(shared.run, stack)
    return shared
