"""Writes what happened, as it happens: one JSON line per request, gaps between tokens as binary, a status line often.

Times are written in emulated milliseconds and seconds; gaps in microseconds of the wall clock (the reader scales them).
Memory stays flat: nothing is kept here.
"""

from __future__ import annotations

import json
import resource
import time
from array import array
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from controlplane.host.files import write_whole
from loadtests.send.client.exchange import Exchange

_LINE = (
    '{"index":%d,"scheduled_s":%.6f,"lag_ms":%.3f,"prompt_tokens":%d,"output_tokens":%d,"wanted_tokens":%d,'
    '"ttft_ms":%s,"tpot_ms":%s,"e2e_ms":%s,"max_itl_ms":%s,"status":%d,"error":%s,"cancelled":%s,"blur_ms":%.3f}\n'
)

MOST_WAITING = 100


class Waits(NamedTuple):
    """What requests in flight wait for, nanoseconds."""

    first_ns: Sequence[int]
    """For a first token, so long by now."""
    next_ns: Sequence[tuple[int, int]]
    """For a further one: so long since the last, after so long until the first."""


def waits_of(in_flight: Collection[Exchange], now_ns: int) -> Waits:
    """Count from when each was sent: how late that was is the generator's own doing, and no wait for the engine."""
    first = [now_ns - each.sent_ns for each in in_flight if not each.meter.events]
    begun = [(each.meter, each.sent_ns) for each in in_flight if each.meter.events]
    return Waits(first, [(now_ns - meter.last_ns, meter.first_ns - sent_ns) for meter, sent_ns in begun])


class Recorder:
    """Files of one worker in `out_dir`: records-K.jsonl, gaps-K.u32, status-K.jsonl, summary-K.json."""

    def __init__(self, out_dir: Path, worker: int, time_lapse: float) -> None:
        self._records = (out_dir / f"records-{worker}.jsonl").open("w")
        self._gaps = (out_dir / f"gaps-{worker}.u32").open("wb")
        self._status = (out_dir / f"status-{worker}.jsonl").open("w")
        self._summary = out_dir / f"summary-{worker}.json"
        self._ms = time_lapse / 1e6  # from nanoseconds of the wall clock
        self._lapse = time_lapse
        self._start_ns = 0
        self._cpu_start_s = 0.0

    def start(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._cpu_start_s = time.process_time()

    def add(self, exchange: Exchange, prompt_tokens: int, wanted_tokens: int) -> None:
        """Write one finished request."""
        meter = exchange.meter
        if meter.usage_prompt is not None:
            prompt_tokens = meter.usage_prompt
        longest_us = max(meter.gaps_us, default=None)
        self._records.write(
            _LINE
            % (
                exchange.index,
                (exchange.scheduled_ns - self._start_ns) * self._lapse / 1e9,
                (exchange.sent_ns - exchange.scheduled_ns) * self._ms,
                prompt_tokens,
                meter.output_tokens,
                wanted_tokens,
                _number((meter.first_ns - exchange.scheduled_ns) * self._ms if meter.first_ns else None),
                _number(self._tpot_ms(exchange)),
                _number(self._e2e_ms(exchange)),
                _number(None if longest_us is None else longest_us * self._lapse / 1e3),
                exchange.status,
                json.dumps(exchange.error),
                "true" if exchange.cancelled else "false",
                exchange.blur_ns * self._ms,
            )
        )
        if meter.gaps_us:
            array("I", (exchange.index, len(meter.gaps_us))).tofile(self._gaps)
            meter.gaps_us.tofile(self._gaps)

    def status(self, *, now_ns: int, sent: int, finished: int, in_flight: int, waits: Waits) -> None:
        """Write how far the run is, and let readers see everything so far."""
        line = {
            "elapsed_s": (now_ns - self._start_ns) * self._lapse / 1e9,
            "sent": sent,
            "finished": finished,
            "in_flight": in_flight,
            "waiting_s": [self._s(each) for each in sorted(waits.first_ns)[-MOST_WAITING:]],
            "begun_s": [(self._s(first), self._s(each)) for each, first in sorted(waits.next_ns)[-MOST_WAITING:]],
            "cpu_percent": self.cpu_percent(now_ns),
            "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        self._records.flush()
        self._gaps.flush()
        self._status.write(json.dumps(line) + "\n")
        self._status.flush()

    def cpu_percent(self, now_ns: int) -> float:
        """CPU of this process since the start of the run, percent of one core."""
        wall_s = (now_ns - self._start_ns) / 1e9
        return 100 * (time.process_time() - self._cpu_start_s) / wall_s if wall_s > 0 else 0.0

    def close(self, summary: dict[str, object]) -> None:
        """Close the files, then write the summary: its presence says the run is over."""
        for file in (self._records, self._gaps, self._status):
            file.close()
        write_whole(self._summary, json.dumps(summary), private=False)

    def _s(self, wall_ns: int) -> float:
        return round(wall_ns * self._lapse / 1e9, 3)

    def _tpot_ms(self, exchange: Exchange) -> float | None:
        meter = exchange.meter
        if exchange.error or exchange.cancelled or meter.output_tokens < 2 or not meter.first_ns:
            return None
        return (meter.last_ns - meter.first_ns) * self._ms / (meter.output_tokens - 1)

    def _e2e_ms(self, exchange: Exchange) -> float | None:
        if exchange.error or exchange.cancelled:
            return None
        return ((exchange.meter.last_ns or exchange.finished_ns) - exchange.scheduled_ns) * self._ms


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.4f}"
