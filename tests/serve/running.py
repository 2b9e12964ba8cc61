"""Models to serve, and servers in the test's own process."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from caffepy import passes, permissions
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TEST
from caffepy.serve.api.servable_pb2 import Servable
from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig
from caffepy.serve.options import ServeOptions
from caffepy.serve.publish import publish
from caffepy.serve.server import Server

SMALL = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
PICTURES = """name: "pictures"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
        inner_product_param { num_output: 3 bias_term: false } }
"""


class Running:
    """A server on a thread's event loop; `ask` runs a coroutine there."""

    def __init__(self, options: ServeOptions):
        self.options = options
        self._ready: Future = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    async def _main(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.server = Server(self.options)
            async with self.server.serving():
                await self.server.catalog.settle()
                self._ready.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def __enter__(self) -> Running:
        self._thread.start()
        self._ready.result(60)
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
        permissions.allow_python_layers(None)

    def ask(self, coroutine, seconds: float = 60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.ports['grpc']}"

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.server.ports['rest']}"

    @property
    def catalog(self):
        return self.server.catalog

    def until(self, fine, seconds: float = 20) -> None:
        """Wait until `fine()`."""
        end = time.monotonic() + seconds
        while not fine():
            assert time.monotonic() < end, "it does not come to pass"
            time.sleep(0.02)


def served(base: Path | str, name: str = "small", **options) -> Running:
    """A server of the model under `base`, on ports of its own."""
    config = ModelConfig(name=name, base_path=str(base))
    given = {
        "models": [config],
        "port": 0,
        "rest_port": 0,
        "poll_seconds": 0.1,
        "drain_seconds": 5,
        "retry_seconds": 0.2,
    }
    return Running(ServeOptions(**(given | options)))


def make_net(folder: Path, definition: str = SMALL, seed: int = 0) -> tuple[Path, Path]:
    """Files of a net with weights of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    deploy = folder / "net.prototxt"
    deploy.write_text(definition)
    net = Net(deploy, TEST)
    random = np.random.default_rng(seed)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.fill(random.standard_normal(blob.shape, np.float32))
    net.save(folder / "net.caffemodel")
    return deploy, folder / "net.caffemodel"


def publish_net(
    base: Path, version: int | None = None, seed: int = 0, definition: str = SMALL, settings: Servable | None = None,
    extra: dict[str, str] | None = None,
) -> int:  # fmt: skip
    """A version of a net with weights of its own."""
    deploy, weights = make_net(base.parent / f"net-{base.name}-{seed}", definition, seed)
    return publish(str(base), str(weights), str(deploy), version, settings, extra)[0]


def expected(base: Path, version: int, x: np.ndarray) -> np.ndarray:
    """What our own pass computes for a version."""
    net = Net(base / str(version) / "deploy.prototxt", TEST, weights=base / str(version) / "model.caffemodel")
    net.engine_blobs["data"].reshape(x.shape)
    net.engine_blobs["data"].fill(x)
    passes.of(net).forward()
    return np.array(net.engine_blobs[net.outputs[0]].host())


def both(base: Path) -> ModelConfig:
    config = ModelConfig(name="small", base_path=str(base))
    config.model_version_policy.all.SetInParent()
    config.version_labels["stable"] = 1
    config.version_labels["canary"] = 2
    return config
