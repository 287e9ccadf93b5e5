"""`python -m tests.fakes.kubernetes --kubeconfig FILE`: a stand-in for other processes, until standard input ends.

With `--silent` its pods are said to be ready and nothing runs in them, as on a real API server with fake kubelets:
`FLEETUNE_TEST_KUBECONFIG=FILE pytest tests/contract -k real-server` then runs the suites as they run there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.restless import Restless
from tests.fakes.kubernetes.silent import SilentKubelet
from tests.integration.loadtests.tls import new_authority


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.kubernetes", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="file to write")
    parser.add_argument("--silent", action="store_true", help="pods are said to be ready, and nothing runs in them")
    parser.add_argument("--gpus", type=int, default=0, help="of one node labelled as an H200; its pods are stubs")
    parser.add_argument(
        "--undying", action="store_true", help="with --silent: ends of deleted pods are never confirmed"
    )
    parser.add_argument("--tls", action="store_true", help="https, by an authority that the kubeconfig names")
    parser.add_argument("--lag", type=float, default=0.0, help="seconds after which controllers see a change")
    parser.add_argument("--late", action="append", default=[], help="KIND=SECONDS: its watches are told so much later")
    parser.add_argument("--bookmarks", type=float, default=0.5, help="seconds between two in a quiet watch; really 60")
    parser.add_argument("--restless", type=float, default=0.0, help="seconds after which controllers say more, always")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tls = new_authority(Path(folder)) if given.tls else None
        cluster = StandIn(Path(folder), tls=tls, lag_s=given.lag)
        cluster.faults.bookmark_s = given.bookmarks
        cluster.faults.late = {kind: float(late) for kind, _, late in (each.partition("=") for each in given.late)}
        silent = SilentKubelet(cluster.api(), ends_pods=not given.undying) if given.silent else None
        restless = Restless(cluster.objects, every_s=given.restless) if given.restless else None
        if given.gpus:
            cluster.add_node("gpu-1", gpus=given.gpus, labels={"nvidia.com/gpu.product": "NVIDIA-H200"})
        given.kubeconfig.write_text(cluster.kubeconfig().read_text())
        sys.stdout.write(f"serving {cluster.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
        if restless is not None:
            restless.stop()
        if silent is not None:
            silent.stop()
        cluster.stop()


if __name__ == "__main__":
    main()
