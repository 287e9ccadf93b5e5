"""YAML that people wrote, decoded; every way in which it can be none ends in one error."""

from __future__ import annotations

from typing import Any

import yaml

from controlplane.domain.errors import InvalidInput


def decoded(text: str, *, source: str) -> Any:
    """Return what a text says. Raises InvalidInput where it is not YAML: `source` is named in the message.

    Impossible dates raise ValueError, and what is nested too deeply RecursionError.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{source} is not YAML", why=" ".join(str(error).split())) from error
