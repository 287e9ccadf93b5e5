"""What users do not bring to a canary is replayed to it, by the real generator on real processes."""

from __future__ import annotations

from pathlib import Path

from controlplane.domain.door.gateway_files import records_dir
from controlplane.domain.door.routing import GatewayRecord
from tests.e2e.loop.installation import SERVICE, installation

ENGINE = SERVICE["engine"] | {"flags": SERVICE["engine"]["flags"] | {"max-num-seqs": 32}}
LOADED = SERVICE["rollout"] | {
    "steps": [
        {"weight_percent": 0, "min_samples": 40, "max_s": 900, "load_rps": 4},
        {"weight_percent": 25, "min_samples": 40, "max_s": 900, "load_rps": 4},
        {"weight_percent": 100, "min_samples": 5, "max_s": 900},
    ],
    "match_load": True,
    "on_unproven_load": "pause",
}


def test_a_canary_is_brought_to_its_load_and_promoted(tmp_path: Path) -> None:
    with installation(tmp_path, engine=ENGINE, rollout=LOADED) as fleet:
        traffic = fleet.traffic(rate_rps=2)  # a quarter of it is half a request a second
        traffic.start()
        flags = ENGINE["flags"] | {"max-num-batched-tokens": 4096}
        fleet.api.post("/rollouts", {"service": "chat", "flags": flags, "replicas": 1})
        fleet.until("the rollout is over", lambda: fleet.rollout()["state"] in ("promoted", "aborted", "paused"))
        rollout = fleet.rollout()
        report = traffic.stop()
        assert rollout["state"] == "promoted", rollout["reason"]
        shadow, analysis = (step["analysis"] for step in rollout["steps"][:2])
        assert shadow["load"]["proven"]
        assert shadow["replayed"]["requests"] >= 40
        assert shadow["canary"]["requests"] == 0  # nobody's: it was judged before any user
        assert analysis["load"]["proven"]
        assert analysis["replayed"]["requests"] > analysis["canary"]["requests"]
        users = {record.id for record in fleet.records(rollout["canary"])}
        assert report.errors == 0
    spooled = [line for path in records_dir(fleet.data_dir).glob("replay-*.jsonl") for line in _lines(path)]
    sent = [GatewayRecord.model_validate_json(line) for line in spooled]
    assert sent
    assert all(each.replayed and each.key is None and each.id not in users for each in sent)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
