"""Places on the GPU for LoRA adapters, as vLLM has them: a batch holds at most so many distinct ones.

Follows `vllm/v1/core/sched/scheduler.py` (a waiting request whose adapter would be one too many is passed over, not
waited for) and `vllm/lora/model_manager.py` (`LRUCacheLoRAModelManager`: the adapter used longest ago makes room).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from tuner.twin.kvcache import Sequence


class AdapterSlots:
    """`most` places; 0: nothing is known of adapters, and none is ever passed over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._resident: OrderedDict[str, None] = OrderedDict()

    def takes(self, sequence: Sequence, running: Iterable[Sequence]) -> bool:
        """Say whether a sequence may join those that run."""
        if not self._most or sequence.adapter is None:
            return True
        used = {each.adapter for each in running if each.adapter is not None}
        return sequence.adapter in used or len(used) < self._most

    def swapped_in(self, step: Iterable[Sequence]) -> int:
        """Make the adapters of a step resident; return how many of them were not."""
        missing = 0
        for name in {each.adapter: None for each in step if each.adapter is not None} if self._most else {}:
            missing += name not in self._resident
            self._resident[name] = None
            self._resident.move_to_end(name)
        while len(self._resident) > self._most:
            self._resident.popitem(last=False)
        return missing
