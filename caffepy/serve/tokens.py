"""API tokens: who may ask at all."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from caffepy.errors import ConfigError, DataError
from caffepy.files import read_text
from caffepy.serve.refusal import Refused


class Tokens:
    """The tokens of a file, one a line; lines that begin with # are left out."""

    def __init__(self, path: str):
        try:
            lines = read_text(path, errors="strict").split("\n")
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot read the tokens: {getattr(error, 'strerror', None) or error}", where=path
            ) from None
        self._tokens = [line.strip().encode() for line in lines if line.strip() and not line.startswith("#")]
        if not self._tokens:
            raise ConfigError("the file has no token", where=path)

    def check(self, headers: Iterable[tuple[bytes | str, bytes | str]]) -> None:
        """Raises Refused unless `authorization: Bearer TOKEN` is among the headers."""
        for name, value in headers:
            if _bytes(name).lower() == b"authorization":
                scheme, _, token = _bytes(value).partition(b" ")
                matches = [hmac.compare_digest(token.strip(), known) for known in self._tokens]
                if scheme.lower() == b"bearer" and any(matches):
                    return
        raise Refused("UNAUTHENTICATED", "no valid API token", hint="Send the header `authorization: Bearer TOKEN`.")


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
