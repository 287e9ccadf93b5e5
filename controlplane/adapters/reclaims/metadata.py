"""What the metadata services of clouds say of the host they are asked from: is it taken back, and when.

EC2: `spot/instance-action` (two minutes). Compute Engine: `instance/preempted` (30 seconds, no time). Azure: scheduled
events of type Preempt (30 seconds at least).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.spot import SHORTEST_NOTICE_S, Cloud
from controlplane.host.addresses import is_tls
from controlplane.host.clock import utc_now
from controlplane.ports import Clock

_TIMEOUT_S = 2.0
_URLS = {
    Cloud.EC2: "http://169.254.169.254",
    Cloud.GCE: "http://metadata.google.internal",
    Cloud.AZURE: "http://169.254.169.254",
}
_PREEMPTED = {"TRUE": True, "FALSE": False}
_TAKEN = frozenset({"terminate", "stop", "hibernate"})


class CloudMetadata:
    """One host's metadata service. `url` is another place that answers in its shape."""

    def __init__(self, cloud: Cloud, *, url: str | None = None, wall: Clock = utc_now) -> None:
        self._cloud, self._url, self._wall = cloud, url or _URLS[cloud], wall

    def taken_back_at(self) -> datetime | None:
        """Return when this host is taken back, None: nobody says so. Raises Unavailable when it cannot be asked."""
        try:
            verify = is_tls(self._url)
            with httpx.Client(base_url=self._url, timeout=_TIMEOUT_S, trust_env=False, verify=verify) as client:
                return self._ask(client)
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"the metadata service at {self._url} does not say whether this host is taken back",
                why=f"{type(error).__name__}: {error}"[:200],
            ) from error

    def _ask(self, client: httpx.Client) -> datetime | None:
        soon = self._wall() + timedelta(seconds=SHORTEST_NOTICE_S)
        match self._cloud:
            case Cloud.EC2:
                return _ec2(client)
            case Cloud.GCE:
                answer = client.get("/computeMetadata/v1/instance/preempted", headers={"Metadata-Flavor": "Google"})
                return soon if _PREEMPTED[answer.raise_for_status().text.strip().upper()] else None
            case Cloud.AZURE:
                answer = client.get(
                    "/metadata/scheduledevents", params={"api-version": "2020-07-01"}, headers={"Metadata": "true"}
                )
                return _preempted(answer.raise_for_status().json(), soon)


def _ec2(client: httpx.Client) -> datetime | None:
    token = client.put("/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    headers = {"X-aws-ec2-metadata-token": token.raise_for_status().text}
    answer = client.get("/latest/meta-data/spot/instance-action", headers=headers)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    said = answer.raise_for_status().json()
    return datetime.fromisoformat(said["time"]) if said["action"] in _TAKEN else None


def _preempted(said: Mapping[str, Any], soon: datetime) -> datetime | None:
    """An event that has begun has no time any more."""
    found = [each for each in said["Events"] if each["EventType"] == "Preempt"]
    times = [parsedate_to_datetime(each["NotBefore"]) if each.get("NotBefore") else soon for each in found]
    return min(times, default=None)
