"""The gRPC server: all services, their health and reflection, on one port."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from caffepy.errors import ConfigError
from caffepy.serve import rpc, tfs_grpc, tls, v2_grpc
from caffepy.serve.api import inference_pb2
from caffepy.serve.api.pool import Default
from caffepy.serve.api.tensorflow_serving_pb2 import SSLConfig
from caffepy.serve.catalog import Catalog
from caffepy.serve.options import ServeOptions, Stop, bracketed
from caffepy.serve.service import Service
from caffepy.serve.tokens import Tokens


async def start(
    options: ServeOptions, service: Service, tokens: Tokens | None, security: SSLConfig | None
) -> tuple[int, Stop]:
    """Listen; the port, and what ends it after a drain. Raises ConfigError where the port cannot be had."""
    most = options.max_message
    server = grpc.aio.server(options=[
        ("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", most),
        ("grpc.so_reuseport", int(options.workers > 1)),
    ])  # fmt: skip
    prediction = tfs_grpc.PredictionService(service, options.raw_tensors)
    model = tfs_grpc.ModelService(service)
    inference = v2_grpc.InferenceService(service, tokens)
    services = ["tensorflow.serving.PredictionService", "tensorflow.serving.ModelService",
                "inference.GRPCInferenceService"]  # fmt: skip
    stream = "inference.GRPCInferenceService", "ModelStreamInfer", inference_pb2.ModelInferRequest
    server.add_generic_rpc_handlers((
        rpc.handlers(services[0], prediction.methods, tokens),
        rpc.handlers(services[1], model.methods, tokens),
        rpc.handlers(services[2], inference.methods, tokens),
        rpc.stream_handler(*stream, inference.stream),
    ))  # type: ignore[arg-type]  # fmt: skip
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    pool = Default()
    with suppress(TypeError):  # it is there already
        pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    names = [*services, "grpc.health.v1.Health", reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server, pool=pool)
    address = f"{bracketed(options.host)}:{options.port}"
    try:
        if security is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, tls.grpc_credentials(security))
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}", hint="Choose another --port.") from None
    if not port:
        raise ConfigError(f"cannot listen on {address}", hint="Choose another --port.")
    await server.start()
    task = asyncio.create_task(_tell_health(health, service.catalog))

    async def stop() -> None:
        await health.enter_graceful_shutdown()
        await server.stop(options.drain_seconds)
        task.cancel()

    return port, stop


async def _tell_health(health: HealthServicer, catalog: Catalog) -> None:
    """Each model is a service of the health protocol, and the server as a whole is the empty name."""
    states = {True: health_pb2.HealthCheckResponse.SERVING, False: health_pb2.HealthCheckResponse.NOT_SERVING}
    changed = asyncio.Event()
    catalog.loader.changed = changed.set
    told: set[str] = set()
    while True:
        await health.set("", states[catalog.ready()])
        for name, served in list(catalog.models.items()):
            await health.set(name, states[bool(served.available)])
        for name in told - set(catalog.models):
            await health.set(name, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        told = set(catalog.models)
        changed.clear()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(changed.wait(), 1)
