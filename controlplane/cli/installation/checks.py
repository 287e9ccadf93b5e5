"""What `fleetune doctor` looks at, one function a thing. Each says what it found and, where it is wrong, what to do."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from controlplane.cli.installation.check import Check, Outcome, plain, port_holder, short
from controlplane.domain.engines.gpu import GpuReading
from controlplane.domain.errors import FleetuneError
from controlplane.host.clock import FILE as CLOCK_FILE
from controlplane.reading.issuers_file import load_issuers
from controlplane.settings import Settings

_GIB = 2**30
LEAST_GIB, FEW_GIB = 1.0, 5.0
CLOCKS_APART_S = 5.0
TIMEOUT_S = 5.0


def driver(run: Callable[[Sequence[str]], str] | None = None) -> Check:
    """Ask nvidia-smi for the driver and the GPUs."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        rows = [line.split(",") for line in (run or _output)(query).splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError) as error:
        missing = isinstance(error, FileNotFoundError)
        told = "nvidia-smi is not installed, or not in PATH" if missing else f"nvidia-smi: {short(error)}"
        return Check("GPU driver", Outcome.DOUBTFUL, told, "install the driver; emulated engines need none")
    if not rows:
        return Check("GPU driver", Outcome.BROKEN, "no GPU", "see `nvidia-smi` and CUDA_VISIBLE_DEVICES")
    names = sorted({row[0].strip() for row in rows})
    return Check("GPU driver", Outcome.WELL, f"{len(rows)} x {', '.join(names)}, driver {rows[0][-1].strip()}")


def gpu_metrics(read: Callable[[], Sequence[GpuReading]]) -> Check:
    """Read the GPUs' memory, use and power as the controller does."""
    try:
        found = read()
    except FleetuneError as error:
        do = "install the driver and nvidia-ml-py; without them GPU numbers of real engines are missing, not zero"
        return Check("GPU metrics", Outcome.DOUBTFUL, short(error), do)
    if not found:
        return Check("GPU metrics", Outcome.DOUBTFUL, "NVML tells of no GPU", "see `nvidia-smi`")
    silent = [each.gpu for each in found if each.utilisation_percent is None]
    told = f"NVML tells of {len(found)} GPUs"
    if silent:
        do = "expected of MIG slices and of some virtual GPUs; their use stays unknown"
        return Check("GPU metrics", Outcome.DOUBTFUL, f"{told}, but not how busy {', '.join(silent)} are", do)
    return Check("GPU metrics", Outcome.WELL, told)


def installation(data_dir: Path, supervisor: int | None) -> Check:
    """Say which installation is looked at, and whether it is up."""
    if supervisor is not None:
        return Check("installation", Outcome.WELL, f"{data_dir} is up, process {supervisor} runs it")
    if not (data_dir / CLOCK_FILE).exists():
        do = "is this the right --data-dir? `fleetune up -f service.yaml` makes one; the rest here is of the host"
        return Check("installation", Outcome.LEFT_OUT, f"none was ever brought up in {data_dir}", do)
    return Check(
        "installation", Outcome.DOUBTFUL, f"{data_dir} is not up", "`fleetune up -f service.yaml` brings it up"
    )


def vllm(version_of: Callable[[str], str] = version) -> Check:
    """Look for vLLM in this environment."""
    try:
        return Check("vLLM", Outcome.WELL, f"version {version_of('vllm')}")
    except PackageNotFoundError:
        do = "pip install 'fleetune[vllm]', or engine.command of another environment's; emulated engines need none"
        return Check("vLLM", Outcome.DOUBTFUL, "not in this environment", do)


def disk(folder: Path, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage) -> Check:
    """See whether the data folder can be written and has room."""
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free_gib = usage(place)[2] / _GIB
    told = f"{free_gib:.1f} GiB free at {place}"
    if not _is_writable(place):
        return Check("disk", Outcome.BROKEN, f"{place} cannot be written", "choose another --data-dir, or its owner")
    if free_gib < LEAST_GIB:
        return Check("disk", Outcome.BROKEN, told, "make room now: records, reports and logs are lost on a full disk")
    if free_gib < FEW_GIB:
        return Check("disk", Outcome.DOUBTFUL, told, f"make room: less than {FEW_GIB:g} GiB fill within days")
    return Check("disk", Outcome.WELL, told)


def clock(data_dir: Path, installed: Callable[[], datetime], wall: Callable[[], datetime]) -> Check:
    """Compare the installation's steady clock with the wall clock, which somebody may have set since."""
    if not (data_dir / CLOCK_FILE).exists():
        return Check("clock", Outcome.LEFT_OUT, "never brought up")
    apart_s = (wall() - installed()).total_seconds()
    if abs(apart_s) <= CLOCKS_APART_S:
        return Check("clock", Outcome.WELL, f"the wall clock is {apart_s:+.1f} s from the installation's")
    ahead = "ahead of" if apart_s > 0 else "behind"
    told = (
        f"the wall clock is {timedelta(seconds=round(abs(apart_s)))} {ahead} the installation's: it was set meanwhile"
    )
    do = "is the wall clock right (`timedatectl`)? Then `fleetune down` and `up`: until then schedules go by the other"
    return Check("clock", Outcome.DOUBTFUL, told, do)


def ports(
    settings: Settings,
    *,
    up: bool,
    answers: Callable[[str, int], bool] | None = None,
    holder: Callable[[int], str] | None = None,
) -> Check:
    """See whether all of the installation's ports answer while it is `up`, and none while it is not."""
    named = {
        "api": settings.api_port,
        "gateway": settings.gateway_port,
        "gateway-admin": settings.gateway_admin_port,
    }
    asks, who = answers or _answers, holder or port_holder
    open_ = {name: port for name, port in named.items() if asks(settings.host, port)}
    closed = {name: port for name, port in named.items() if name not in open_}
    if up and closed:
        logs = sorted({f"logs/{name.split('-')[0]}.log" for name in closed})
        do = f"see {' and '.join(logs)} of the data folder"
        return Check("ports", Outcome.BROKEN, f"it is up, but nothing answers at {_ports(closed)}", do)
    if not up and open_:
        taken = "; ".join(f"{port} ({name}) is taken by {who(port)}" for name, port in open_.items())
        do = f"stop that, or bring it up with {' '.join(f'--{name}-port N' for name in open_)}"
        return Check("ports", Outcome.BROKEN, f"it is not up, and {taken}", do)
    return Check("ports", Outcome.WELL, f"all {'answer' if up else 'free'}: {_ports(named)}")


_DAMAGED = "the file is damaged: `fleetune down`, then put a copy of it in its place, or move it away and begin anew"
_NOT_OURS = "may this user write the file and its folder? The installation's owner may"
_STORE_HINTS = {
    "password authentication failed": "the password or the user of --store-url is wrong",
    "no password supplied": "--store-url has no password: postgresql://USER:PASSWORD@HOST/NAME",
    "does not exist": "the database or the user of --store-url is not there: create it, or correct the name",
    "refused": "nothing listens there: is PostgreSQL running, and are host and port of --store-url right?",
    "translate host name": "the host of --store-url is not known: a typing error, or DNS",
    "timeout": "the host of --store-url does not answer: is it up, and does a firewall stand between?",
    "not a database": _DAMAGED,
    "malformed": _DAMAGED,
    "readonly": _NOT_OURS,
    "unable to open": _NOT_OURS,
    "disk": "make room where the database lies",
}


def store(open_store: Callable[[], object], url: str) -> Check:
    """Open the database as the processes do."""
    kind = url.partition(":")[0].partition("+")[0]
    name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(kind, kind)
    try:
        open_store()
    except FleetuneError as error:
        told = error.why or error.what
        do = next((hint for said, hint in _STORE_HINTS.items() if said in told.lower()), "is --store-url right?")
        return Check("store", Outcome.BROKEN, f"{name}: {plain(told)}", do)
    return Check("store", Outcome.WELL, f"{name} answers")


def issuers(path: Path | None, fetch: Callable[[str], bytes]) -> Check:
    """Fetch the keys of every trusted issuer of tokens."""
    if path is None:
        return Check("OIDC", Outcome.LEFT_OUT, "no issuer is trusted")
    try:
        named = load_issuers(path)
        for each in named:
            keys = json.loads(fetch(each.jwks_url)).get("keys")
            if not keys:
                return Check("OIDC", Outcome.BROKEN, f"{each.name} has no keys", f"is {each.jwks_url} right?")
    except (FleetuneError, ValueError, AttributeError) as error:
        return Check("OIDC", Outcome.BROKEN, short(error), f"see {path}; tokens are refused until keys were read")
    return Check("OIDC", Outcome.WELL, f"keys of {', '.join(each.name for each in named) or 'nobody'}")


def mlflow(
    url: str | None, get: Callable[[str], int] | None = None, version_of: Callable[[str], str] = version
) -> Check:
    """Ask the installation's MLflow whether it is well, and look for what asks it."""
    if url is None:
        return Check("MLflow", Outcome.LEFT_OUT, "none is named; `fleetune up --mlflow-url URL`")
    try:
        version_of("mlflow-skinny")
        status = (get or _status)(f"{url}/health")
    except PackageNotFoundError:
        return Check("MLflow", Outcome.BROKEN, "its client is not installed", "pip install 'fleetune[mlflow]'")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        do = "is it running, and the URL right? Serving goes on without it"
        return Check("MLflow", Outcome.BROKEN, f"{url}: {short(error)}", do)
    if status == 200:
        return Check("MLflow", Outcome.WELL, f"{url} is well")
    return Check("MLflow", Outcome.BROKEN, f"{url} answers {status}", "it starts, or something else is there")


def prometheus(url: str | None, get: Callable[[str], int] | None = None) -> Check:
    """Ask a Prometheus whether it is ready."""
    if url is None:
        return Check("Prometheus", Outcome.LEFT_OUT, "none is named; --prometheus URL")
    try:
        status = (get or _status)(f"{url.rstrip('/')}/-/ready")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Check("Prometheus", Outcome.BROKEN, f"{url}: {short(error)}", "is it running, and the URL right?")
    if status == 200:
        return Check("Prometheus", Outcome.WELL, f"{url} is ready")
    return Check("Prometheus", Outcome.BROKEN, f"{url} answers {status}", "it starts, or something else is there")


def redis(address: str | None, ask: Callable[[str, int], bytes] | None = None) -> Check:
    """Say PING to a Redis at host:port. One that wants a password is there too."""
    if address is None:
        return Check(
            "Redis", Outcome.LEFT_OUT, "none is named; --redis HOST:PORT, or the gateways' FLEETUNE_LIMITS_REDIS_URL"
        )
    host, port = _host_and_port(address)
    if not host or not port.isdigit():
        return Check(
            "Redis", Outcome.BROKEN, "what is named is no address", "--redis HOST:PORT, or redis://HOST:PORT/0"
        )
    address = f"{host}:{port}"  # of a URL, without its password
    try:
        said = (ask or _ping)(host, int(port))
    except OSError as error:
        do = "is it running, and the address right? Until it answers each gateway counts its share of the limits alone"
        return Check("Redis", Outcome.BROKEN, f"{address}: {short(error)}", do)
    if said.startswith((b"+PONG", b"-NOAUTH")):
        return Check("Redis", Outcome.WELL, f"{address} answers")
    return Check("Redis", Outcome.BROKEN, f"what answers at {address} is no Redis", "--redis HOST:PORT")


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S):
            return True
    except OSError:
        return False


def _ping(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64)


def _status(url: str) -> int:
    return httpx.get(url, timeout=TIMEOUT_S, trust_env=False).status_code


def _is_writable(folder: Path) -> bool:
    probe = folder / ".fleetune-doctor"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _ports(named: Mapping[str, int]) -> str:
    return ", ".join(f"{port} ({name})" for name, port in named.items())


def _host_and_port(address: str) -> tuple[str, str]:
    if "://" not in address:
        host, _, port = address.rpartition(":")
        return host, port
    try:
        url = urlsplit(address)
        return url.hostname or "", str(url.port or 6379)
    except ValueError:
        return "", ""
