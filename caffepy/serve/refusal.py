"""Why a request is refused: gRPC's codes, and HTTP's for the same."""

from __future__ import annotations

from caffepy.errors import CaffeError

HTTP = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "FAILED_PRECONDITION": 412,
    "OUT_OF_RANGE": 416,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""TensorFlow Serving's table; whatever is not in it is 500."""


class Refused(CaffeError):
    """A request that is not answered, with gRPC's name of the reason."""

    def __init__(self, code: str, message: str, *, hint: str = "", status: int | None = None):
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status or HTTP.get(code, 500)


def invalid(message: str, hint: str = "") -> Refused:
    return Refused("INVALID_ARGUMENT", message, hint=hint)


def as_refusal(error: BaseException) -> Refused:
    """What a client is told of an error: our own in full, of a mistake of ours its type."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, CaffeError):
        return Refused("INVALID_ARGUMENT", str(error))
    if isinstance(error, MemoryError):
        return Refused("RESOURCE_EXHAUSTED", "there is not enough memory for this request")
    return Refused("INTERNAL", f"{type(error).__name__} in the server; its log says more")
