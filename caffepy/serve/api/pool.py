"""The pool of these messages: apart from the process's own, where clients such as tritonclient put theirs."""

from __future__ import annotations

from functools import cache

from google.protobuf import any_pb2, descriptor_pool, wrappers_pb2


@cache
def Default() -> descriptor_pool.DescriptorPool:  # noqa: N802: what generated code calls
    """The pool, with the well-known messages that the schemas import."""
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
