"""A RabbitMQ of the tests' own, where the machine has one: a node with a name, ports and folders nobody else has."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlplane.host.ports import free_port

_SERVERS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")


@dataclass
class OwnRabbitMQ:
    """One running node. It can be killed and started again with what it kept."""

    url: str
    command: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.command],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _until_it_answers(int(self.environment["RABBITMQ_NODE_PORT"]), self.process)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def own_rabbitmq(folder: Path) -> Iterator[OwnRabbitMQ]:
    """Run one; skips the test on machines without rabbitmq-server."""
    command = next((found for each in _SERVERS if (found := shutil.which(each))), None)
    if command is None:
        pytest.skip("no rabbitmq-server on this machine")
    port, spare, names = free_port(), free_port(), free_port()
    config = folder / "rabbitmq.conf"
    config.write_text(
        "loopback_users = none\nvm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 1MB\n"
    )
    environment = dict(os.environ) | {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"tests-{secrets.token_hex(4)}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(spare),
        "RABBITMQ_MNESIA_BASE": str(folder / "db"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    registry = subprocess.Popen(["epmd", "-port", str(names)], env=environment)  # else one is left behind
    node = OwnRabbitMQ(f"amqp://guest:guest@127.0.0.1:{port}/", command, environment)
    try:
        _until_it_answers(names, registry)
        node.start()
        yield node
    finally:
        node.kill()
        registry.kill()
        registry.wait()


def _until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "it ended"
        time.sleep(0.1)
    raise AssertionError("it does not listen")
