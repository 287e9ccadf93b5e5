"""One pod's container as a process: started, probed, restarted when it dies, drained and killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.kubernetes.jobs import is_run

_ENGINE = Path(__file__).parent / "engine.py"
_ROOT = Path(__file__).parents[3]
STUB = ("-I", "-S", str(_ENGINE))
EMULATOR = ("-m", "controlplane.emulator.main")
"""What Python is told to run as an engine: starts at once and knows little, or takes seconds and can be tuned."""
_BACK_OFF_S = 10.0
_PROBE_TIMEOUT_S = 2.0
_MESSAGE_BYTES = 2048
_probes = ThreadPoolExecutor(max_workers=16, thread_name_prefix="probe")


class PodLife:
    """The container of one pod. `step` returns a new status when there is one to tell. `engine` is what runs as one."""

    def __init__(
        self, pod: Mapping[str, Any], folder: Path, *, address: str, pace: float, engine: Sequence[str] = STUB
    ) -> None:
        self.name: str = pod["metadata"]["name"]
        self.address, self._pace, self._folder, self._engine = address, pace, folder, engine
        self._container = pod["spec"]["containers"][0]
        self._policy, self._is_ours = pod["spec"].get("restartPolicy"), is_run(pod["spec"])
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._started, self._ready, self._silent = False, False, 0
        self._probe_at = self._start_at = 0.0
        self._asked: Future[bool] | None = None
        self._last: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None
        self._killed_for = ""
        self._stopping_at: float | None = None
        self._hook: subprocess.Popen[bytes] | None = None
        self._is_terminated = False
        self._since = _now()

    def step(self, *, has_image: bool) -> dict[str, Any] | None:
        if not has_image and self.process is None:
            return self._news(
                {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}}
            )
        if self.process is not None and self.process.poll() is not None:
            self._note_death(self.process)
        if self._policy == "Never" and self._last is not None:
            return self._news({"terminated": self._last["terminated"]})
        if self.process is None and time.monotonic() >= self._start_at:
            self._start()
        if self.process is None:
            back_off = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
            return self._news({"waiting": back_off})
        self._probe()
        return self._news({"running": {"startedAt": self._since}})

    def ended(self, *, grace_s: float) -> bool:
        """Run the hook before a stop, then ask the process to go; True once it is gone."""
        if self.process is None or self.process.poll() is not None:
            self._end_hook()
            return True
        if self._stopping_at is None:
            self._stopping_at = time.monotonic()
            self._hook = self._pre_stop()
        if time.monotonic() - self._stopping_at > grace_s:
            self.kill()
        elif (self._hook is None or self._hook.poll() is not None) and not self._is_terminated:
            self.process.terminate()
            self._is_terminated = True
        return False

    def kill(self, *, reason: str = "") -> None:
        self._killed_for = reason
        self._end_hook()
        process = self.process  # the kubelet's thread may look at it meanwhile, and let go of it
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def log(self, *, previous: bool) -> str:
        path = self._log(self.restarts - 1 if previous and self.process is not None else self.restarts)
        return path.read_bytes().decode(errors="replace") if path.exists() else ""

    def forget_told(self) -> None:
        self._told = None

    def _start(self) -> None:
        self._started, self._ready, self._silent = False, False, 0
        self._probe_at, self._asked, self._since = 0.0, None, _now()
        if self._last is not None:
            self.restarts += 1
        with self._log(self.restarts).open("wb") as log:
            self.process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment()
            )

    def _environment(self) -> Mapping[str, str] | None:
        """Our own programs are found as in their image."""
        return os.environ | {"PYTHONPATH": str(_ROOT)} if self._is_ours or self._engine == EMULATOR else None

    def _command(self) -> Sequence[str]:
        said = [*self._container.get("command", []), *self._container.get("args", [])]
        given = [_expanded(word, self._container.get("env", [])) for word in said]
        if self._is_ours:
            return [sys.executable, *given[1:]]
        arguments = given[2:] if given[:2] == ["vllm", "serve"] else given[1:]
        return [sys.executable, *self._engine, *(self._here(each) for each in arguments)]

    def _here(self, word: str) -> str:
        """A pod has a network of its own: its wildcard and its loopback are its address here."""
        return word.replace("0.0.0.0", self.address).replace("127.0.0.1", self.address)

    def _log(self, life: int) -> Path:
        return self._folder / f"{self.name}.{life}.log"

    def _note_death(self, process: subprocess.Popen[bytes]) -> None:
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        ended = {"exitCode": code, "reason": self._killed_for or ("Error" if code else "Completed")}
        if code and self._container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            text = self._log(self.restarts).read_bytes()[-_MESSAGE_BYTES:]
            ended["message"] = text.decode(errors="replace")
        self._last = {"terminated": {**ended, "startedAt": self._since, "finishedAt": _now()}}
        self._killed_for, self.process = "", None
        self._started = self._ready = False
        self._start_at = time.monotonic() + _BACK_OFF_S / self._pace

    def _probe(self) -> None:
        """Startup, readiness and liveness ask the same of the same port here; each counts in its own way."""
        probe = self._container.get("readinessProbe")
        if probe is None:
            self._started = self._ready = True
            return
        if self._asked is None and time.monotonic() >= self._probe_at:
            url = f"http://{self.address}:{self._container['ports'][0]['containerPort']}{probe['httpGet']['path']}"
            self._asked = _probes.submit(_is_well, url)
        elif self._asked is not None and self._asked.done():
            self._probe_at = time.monotonic() + probe.get("periodSeconds", 10) / self._pace
            self._heard(self._asked.result())
            self._asked = None

    def _heard(self, well: bool) -> None:
        if well:
            self._started, self._ready, self._silent = True, True, 0
            return
        self._silent += 1
        if not self._started:
            self._kill_after("startupProbe")
            return
        self._ready = self._ready and self._silent < self._container["readinessProbe"].get("failureThreshold", 3)
        self._kill_after("livenessProbe")

    def _kill_after(self, name: str) -> None:
        probe = self._container.get(name)
        if probe is not None and self._silent >= probe.get("failureThreshold", 3):
            self.kill()

    def _pre_stop(self) -> subprocess.Popen[bytes] | None:
        command = self._container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        if command is None:
            return None
        words = [self._here(each) for each in command]
        program = sys.executable if words[0] == "python3" else words[0]
        return subprocess.Popen([program, *words[1:]], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def _end_hook(self) -> None:
        if self._hook is not None:
            self._hook.kill()
            self._hook.wait()

    def _news(self, state: Mapping[str, Any]) -> dict[str, Any] | None:
        shown = {
            "name": self._container["name"],
            "image": self._container["image"],
            "imageID": "",
            "ready": self._ready,
            "started": self._started,
            "restartCount": self.restarts,
            "state": {"running": None, "waiting": None, **state},
            "lastState": self._last or {},
        }
        phase = "Running" if "running" in state or self._last is not None else "Pending"
        if "terminated" in state:
            phase = "Failed" if state["terminated"]["exitCode"] else "Succeeded"
        status: dict[str, Any] = {"phase": phase, "podIP": self.address, "containerStatuses": [shown]}
        status["podIPs"] = [{"ip": self.address}]
        if status == self._told:
            return None
        self._told = status
        return status


def _expanded(word: str, env: Sequence[Mapping[str, str]]) -> str:
    """Return a word of a command as a cluster hands it on: `$(NAME)` is a variable's value, `$$` is one `$`."""
    values = {each["name"]: each.get("value", "") for each in env}
    return re.sub(r"\$\$|\$\(([^()]*)\)", lambda m: values.get(m[1], m[0]) if m[1] is not None else "$", word)


def conditions(pod: Mapping[str, Any], status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pod's conditions with what the kubelet knows laid over what others said."""
    ready = "True" if status["containerStatuses"][0]["ready"] else "False"
    mine = {name: {"type": name, "status": ready} for name in ("Ready", "ContainersReady")}
    mine["Initialized"] = {"type": "Initialized", "status": "True"}
    others = [each for each in pod.get("status", {}).get("conditions", []) if each["type"] not in mine]
    return [*others, *mine.values()]


def _is_well(url: str) -> bool:
    try:
        return httpx.get(url, timeout=_PROBE_TIMEOUT_S, trust_env=False, verify=False).status_code == 200
    except httpx.HTTPError:
        return False


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
