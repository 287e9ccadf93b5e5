"""Helm's library comes as a wheel of x86 Linux only."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("helm_python") else ["test_chart*.py", "test_giving_way.py"]
