"""How a refusal looks: OpenAI's shape, vLLM's types."""

from __future__ import annotations


class ApiError(Exception):
    """A request that is refused. `kind` is vLLM's error type, e.g. BadRequestError."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
        super().__init__(message)


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, "BadRequestError", param)
