"""The open-loop dispatcher: sends every request at its instant, whatever became of the ones before.

One epoll set holds all connections and a timerfd; one greenlet turns. Sending comes before reading, because a late send
is an error of the measurement while a late read is not: the kernel stamped the bytes when they came.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ssl import SSLError

from loadtests.send.client.connection import Address, Connection
from loadtests.send.client.exchange import Exchange
from loadtests.send.client.gathering import Gathering
from loadtests.send.client.pool import ERR, HUP, IN, OUT, GeneratorFull, Poller, Pool
from loadtests.send.client.recorder import Recorder, waits_of
from loadtests.send.client.share import Share
from loadtests.send.client.timer import Alarm
from loadtests.send.client.wire import RequestWriter, compact

_NEVER = 1 << 62
_SECOND_NS = 1_000_000_000
_SWEEP_NS = 50_000_000
_STATUS_NS = 100_000_000


class Dispatcher:
    """Runs one share. `wait` lets other greenlets run until a descriptor is readable; in a `nap` they sleep too."""

    def __init__(
        self,
        share: Share,
        *,
        writer: RequestWriter,
        address: Address,
        recorder: Recorder,
        poller: Poller,
        wait: Callable[[int], None],
        nap: Callable[[float], None],
        on_finish: Callable[[Exchange], None],
    ) -> None:
        plan = share.plan
        self._plan, self._schedule, self._writer = plan, share.schedule, writer
        self._recorder, self._poller, self._on_finish = recorder, poller, on_finish
        self._wait, self._nap = wait, nap
        scale = _SECOND_NS / plan.time_lapse
        self._indices = compact(share.indices)
        self._instants_ns = compact(share.schedule.scheduled_s[share.indices] * scale)
        self._cancel_after = compact(share.schedule.cancel_after[share.indices])
        self._closed_loop = max(1, plan.concurrency // plan.workers) if plan.concurrency else 0
        self._wall_ns = scale
        self._alarm = Alarm()
        self._poller.register(self._alarm.fd, IN)
        self._pool = Pool(address, poller)
        self._busy: dict[int, Exchange] = {}
        self._rendered: bytes | None = None
        self._next = 0
        self._finished: list[Exchange] = []
        self._done = self._coalesced = self._unsent = self._by_kernel = self._reads = 0
        self._start_ns = self._next_sweep_ns = self._next_status_ns = 0
        self._late_ns = self._events = self._looked_ns = self._looks_ns = 0
        self._gathering = Gathering(plan.time_lapse)
        self._drain_on_stop = plan.drain_on_stop
        self.stop_reason: str | None = None

    def prepare(self, spare: int) -> None:
        """Open `spare` connections before the clock starts."""
        self._pool.prepare(spare, time.monotonic_ns())

    def run(self, start_ns: int) -> dict[str, object]:
        """Send everything, wait for every answer, return the summary. `start_ns` is instant 0 of the schedule."""
        self._start_ns = self._next_status_ns = start_ns
        self._next_sweep_ns = time.monotonic_ns()  # an alarm set to 0 would never ring
        self._recorder.start(start_ns)
        while not self._over():
            others_ran = not self._let_gather(time.monotonic_ns()) and self._await_work()
            self._turn(may_sweep=others_ran)
        return self._wind_up()

    def _over(self) -> bool:
        cut_off = self.stop_reason is not None and not self._drain_on_stop
        return cut_off or (self._sent_all() and not self._busy)

    def _sent_all(self) -> bool:
        return self._next >= len(self._indices) or self.stop_reason is not None

    def _next_send_ns(self) -> int:
        if self._sent_all():
            return _NEVER
        if self._closed_loop:
            return self._start_ns if len(self._busy) < self._closed_loop else _NEVER
        return self._start_ns + self._instants_ns[self._next]

    def _let_gather(self, now_ns: int) -> bool:
        """Sleep a moment when tokens are sure to come meanwhile; say whether. Sends are never put off.

        Other greenlets sleep too: going through Locust's loop costs more than reading a token, so they get their turn
        at every sweep only.
        """
        moment_ns = self._gathering.moment_ns(len(self._busy))
        left_ns = self._next_send_ns() - now_ns
        if not moment_ns or left_ns <= 0 or now_ns >= self._next_sweep_ns:
            return False
        self._nap(min(moment_ns, left_ns) / _SECOND_NS)
        return True

    def _await_work(self) -> bool:
        """Wait for bytes or the next instant, at least before every sweep; say whether others got their turn."""
        now_ns, send_ns = time.monotonic_ns(), self._next_send_ns()
        if now_ns >= send_ns and now_ns < self._next_sweep_ns:
            return False
        self._alarm.set(min(send_ns, self._next_sweep_ns))
        self._wait(self._poller.fileno())
        return True

    def _turn(self, *, may_sweep: bool) -> None:
        """Send, read and, unless that would put off the others' turn, sweep: a sweep sets the instant of the next."""
        self._send_due()
        self._looked_ns, self._looks_ns = self._looks_ns, time.monotonic_ns()
        due_ns = self._next_send_ns()
        for fd, mask in self._poller.poll(0, 256):
            if fd == self._alarm.fd:
                self._alarm.silence()
            elif (connection := self._pool.by_fd.get(fd)) is not None:
                self._serve(connection, mask)
            if time.monotonic_ns() >= due_ns:
                self._send_due()
                due_ns = self._next_send_ns()
        now_ns = time.monotonic_ns()
        if may_sweep and now_ns >= self._next_sweep_ns:
            self._sweep(now_ns)
        self._hand_over()
        if self._rendered is None and self._next < len(self._indices):
            self._rendered = self._writer.render(self._indices[self._next])

    def _send_due(self) -> None:
        while (due_ns := self._next_send_ns()) <= (now_ns := time.monotonic_ns()):
            scheduled_ns = now_ns if self._closed_loop else due_ns
            self._send(self._next, scheduled_ns, now_ns)
            self._next += 1

    def _send(self, position: int, scheduled_ns: int, now_ns: int) -> None:
        index = self._indices[position]
        exchange = Exchange(index, scheduled_ns, now_ns, self._cancel_after[position])
        data, self._rendered = self._rendered or self._writer.render(index), None
        self._carry(exchange, data, self._pool.take, now_ns)

    def _carry(self, exchange: Exchange, data: bytes, connect: Callable[[int], Connection], now_ns: int) -> None:
        try:
            connection = connect(now_ns)
        except GeneratorFull:
            self._unsent += 1
            self._finish(exchange, "generator", now_ns)
            return
        except OSError:
            self._finish(exchange, "connect", now_ns)
            return
        self._busy[connection.fd] = exchange
        connection.since_ns = now_ns
        if not exchange.asked_again:
            exchange.sent_ns = time.monotonic_ns() if connection.connected else now_ns
            self._late_ns = max(self._late_ns, exchange.sent_ns - exchange.scheduled_ns)
        try:
            connection.send(data)
        except OSError:
            self._end(connection, "reset")
            return
        if connection.wants_write:
            self._poller.modify(connection.fd, IN | OUT)

    def _finish(self, exchange: Exchange, error: str, now_ns: int) -> None:
        exchange.fail(error, now_ns)
        self._finished.append(exchange)

    def _serve(self, connection: Connection, mask: int) -> None:
        try:
            if mask & (OUT | ERR | HUP) and connection.wants_write:
                self._written(connection)
            if mask & (IN | ERR | HUP) and connection.connected:
                self._read(connection)
        except SSLError:
            self._end(connection, "tls")
        except OSError:
            self._end(connection, "reset" if connection.connected else "connect")

    def _written(self, connection: Connection) -> None:
        was_open = connection.connected
        connection.writable()
        if not connection.wants_write:
            self._poller.modify(connection.fd, IN)
        if not was_open and connection.fd not in self._busy:
            self._pool.give_back(connection, time.monotonic_ns())

    def _read(self, connection: Connection) -> None:
        data, at_ns, by_kernel = connection.receive()
        if data is None:
            return
        exchange = self._busy.get(connection.fd)
        self._reads += 1
        self._by_kernel += by_kernel
        if not data or exchange is None:  # closed, or bytes that nobody asked for
            self._end(connection, None)
            return
        earliest_ns = exchange.heard_ns or exchange.scheduled_ns
        exchange.feed(data, at_ns if at_ns > earliest_ns else earliest_ns, self._looked_ns)
        if exchange.done:
            self._answered(connection, exchange)

    def _answered(self, connection: Connection, exchange: Exchange) -> None:
        del self._busy[connection.fd]
        self._finished.append(exchange)
        connection.has_answered = True
        if exchange.reusable:
            self._pool.give_back(connection, exchange.finished_ns)
        else:
            self._pool.drop(connection)

    def _end(self, connection: Connection, error: str | None) -> None:
        """The connection is over; with it the request it carried (None: the peer closed it)."""
        now_ns = time.monotonic_ns()
        exchange = self._busy.pop(connection.fd, None)
        if exchange is None:
            self._pool.lost(connection, now_ns, failed=error is not None)
            return
        if connection.has_answered and error in (None, "reset") and exchange.may_be_asked_again(now_ns):
            self._pool.drop(connection)
            self._carry(exchange, self._writer.render(exchange.index), self._pool.open, now_ns)
            return
        if error is None:
            exchange.peer_closed(now_ns)
        else:
            is_cut = error in ("reset", "tls") and exchange.status == 200
            exchange.fail("truncated" if is_cut else error, now_ns)
        self._finished.append(exchange)
        self._pool.drop(connection)

    def _sweep(self, now_ns: int) -> None:
        """Everything that has time: timeouts, stale connections, new ones, status."""
        self._next_sweep_ns = now_ns + _SWEEP_NS
        for fd, exchange in list(self._busy.items()):
            error = self._expired(self._pool.by_fd[fd], exchange, now_ns)
            if error:
                self._end(self._pool.by_fd[fd], error)
        self._pool.refresh(now_ns, len(self._busy))
        if now_ns >= self._next_status_ns:
            self._next_status_ns = now_ns + _STATUS_NS
            self._write_status(now_ns)

    def _expired(self, connection: Connection, exchange: Exchange, now_ns: int) -> str | None:
        limits, waited_ns = self._plan.timeouts, now_ns - exchange.scheduled_ns
        if not connection.connected and now_ns - connection.since_ns > limits.connect_s * _SECOND_NS:
            return "timeout_connect"
        if waited_ns > limits.total_s * self._wall_ns:
            return "timeout_total"
        if not exchange.meter.first_ns:
            return "timeout_first_token" if waited_ns > limits.first_token_s * self._wall_ns else None
        stalled_ns = now_ns - exchange.meter.last_ns
        return "timeout_stall" if stalled_ns > limits.stall_s * self._wall_ns else None

    def _hand_over(self) -> None:
        for exchange in self._finished:
            self._done += 1
            self._coalesced += exchange.meter.coalesced
            self._events += exchange.meter.events
            self._gathering.learn(exchange.meter)
            wanted = self._schedule.prompt_tokens[exchange.index], self._schedule.output_tokens[exchange.index]
            self._recorder.add(exchange, int(wanted[0]), int(wanted[1]))
            self._on_finish(exchange)
        self._finished.clear()

    def _write_status(self, now_ns: int) -> None:
        waits = waits_of(self._busy.values(), now_ns)
        self._recorder.status(
            now_ns=now_ns, sent=self._next, finished=self._done, in_flight=len(self._busy), waits=waits
        )

    def _wind_up(self) -> dict[str, object]:
        self._hand_over()
        now_ns = time.monotonic_ns()
        self._write_status(now_ns)
        self._pool.close()
        self._poller.unregister(self._alarm.fd)
        self._alarm.close()
        return {
            "sent": self._next,
            "finished": self._done,
            "unfinished": len(self._busy),
            "not_sent": self._unsent,
            "token_events": self._events,
            "coalesced": self._coalesced,
            "kernel_stamps_share": self._by_kernel / self._reads if self._reads else None,
            "cpu_percent": self._recorder.cpu_percent(now_ns),
            "max_lag_ms": self._late_ns * self._plan.time_lapse / 1e6,
            "wall_s": (now_ns - self._start_ns) / 1e9,
            "stopped": self.stop_reason,
        }
