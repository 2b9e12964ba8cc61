"""Messages of public APIs: generated from our schemas, in a pool that meets no other package's."""

import hashlib
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from caffepy.serve.api import inference_pb2, servable_pb2, tensorflow_pb2, tensorflow_serving_pb2

ROOT = Path(__file__).parents[2]
MODULES = {m.DESCRIPTOR.name: m for m in (inference_pb2, servable_pb2, tensorflow_pb2, tensorflow_serving_pb2)}


@pytest.mark.parametrize("name", MODULES)
def test_generated_code_is_fresh(name):
    schema = (ROOT / "proto" / name).read_text(encoding="utf-8")
    first = Path(MODULES[name].__file__).read_text(encoding="utf-8").partition("\n")[0]
    digest = hashlib.sha256(schema.encode()).hexdigest()
    assert first == f"# sha256 of proto/{name}: {digest}", "the generated code is stale: run make proto"


@pytest.mark.parametrize("name", MODULES)
def test_the_processs_own_pool_has_none_of_them(name):
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName(name)
