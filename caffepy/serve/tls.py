"""TLS of both servers, from one SSLConfig."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caffepy.errors import ConfigError
from caffepy.serve.api.tensorflow_serving_pb2 import SSLConfig


def grpc_credentials(config: SSLConfig) -> Any:
    import grpc

    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )


@contextmanager
def uvicorn_arguments(config: SSLConfig | None) -> Iterator[dict[str, Any]]:
    """What uvicorn is told, with files that are there in the block alone. Raises ConfigError for what is no PEM."""
    import ssl

    if config is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="caffepy-tls-") as folder:
        os.chmod(folder, 0o700)
        paths = {}
        for name, content in (("key", config.server_key), ("cert", config.server_cert), ("ca", config.custom_ca)):
            path = paths[name] = Path(folder, name)
            path.touch(0o600)
            path.write_text(content, encoding="utf-8")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(paths["cert"], paths["key"])
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"server_key and server_cert are no pair of PEM texts: {error}") from None
        arguments: dict[str, Any] = {"ssl_keyfile": str(paths["key"]), "ssl_certfile": str(paths["cert"])}
        if config.client_verify:
            arguments |= {"ssl_ca_certs": str(paths["ca"]), "ssl_cert_reqs": int(ssl.CERT_REQUIRED)}
        yield arguments
