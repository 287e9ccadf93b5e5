"""Other greenlets get their turn however busy the streams are: one of them hears that the run is to stop."""

from __future__ import annotations

from pathlib import Path

from controlplane.domain.workload import Lengths, SyntheticWorkload
from loadtests.selfcheck import truth_server
from loadtests.send.client.recorder import Recorder, Waits
from tests.integration.loadtests.dispatching import dispatch, wait_for

STREAMS = 40.0
WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=20), output_tokens=Lengths(mean=200))


class RecorderThatCounts(Recorder):
    """Notes at every status line, written at a sweep, how often others had got their turn."""

    def __init__(self, out_dir: Path) -> None:
        super().__init__(out_dir, 0, 1.0)
        self.turns = 0
        self.turns_at_status: list[int] = []

    def wait(self, fd: int) -> None:
        self.turns += 1
        wait_for(fd)

    def status(self, *, now_ns: int, sent: int, finished: int, in_flight: int, waits: Waits) -> None:
        self.turns_at_status.append(self.turns)
        super().status(now_ns=now_ns, sent=sent, finished=finished, in_flight=in_flight, waits=waits)


def test_no_sweep_passes_without_a_turn_for_others_while_many_streams_are_open(tmp_path: Path) -> None:
    recorder = RecorderThatCounts(tmp_path)
    with truth_server(tmp_path / "truth") as url:
        dispatch(url, recorder, tmp_path, WORKLOAD, rate_rps=STREAMS, wait=recorder.wait)
    at_sweeps = recorder.turns_at_status[:-1]  # the last line is that of the end
    assert len(at_sweeps) > 5
    assert len(set(at_sweeps)) == len(at_sweeps)
