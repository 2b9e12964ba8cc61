"""Generate the Python of proto/*.proto, .py and .pyi: python proto/generate.py"""

import hashlib
import re
import sys
from importlib import metadata
from pathlib import Path

# The `proto` extra. Code of its protoc (25.1) runs on protobuf 4.25 and everything later; that of newer
# ones refuses any runtime older than itself.
GRPCIO_TOOLS = "1.62.3"
HERE = Path(__file__).parent
PACKAGE = HERE.parent / "caffepy"
SCHEMAS = {"caffe": "proto"} | dict.fromkeys(("tensorflow", "tensorflow_serving", "inference", "servable"), "serve/api")
"""Each schema's folder. Those of public APIs have a pool of their own: other packages bring the same messages."""


def main():
    try:
        found = metadata.version("grpcio-tools")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != GRPCIO_TOOLS:
        sys.exit(
            f"proto/generate.py: needs grpcio-tools {GRPCIO_TOOLS}, found {found}\n"
            '  Install it with: pip install -e ".[proto]"'
        )
    for name, folder in SCHEMAS.items():
        generate(name, PACKAGE / folder)


def generate(name, out):
    import grpc_tools
    from grpc_tools import protoc

    schema = HERE / f"{name}.proto"
    well_known = Path(grpc_tools.__file__).with_name("_proto")
    arguments = [f"-I{HERE}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", schema.name]
    if protoc.main(["protoc", *arguments]):
        sys.exit("proto/generate.py: protoc failed, see above")
    # As text, so that a checkout with other line ends gives the same digest.
    digest = hashlib.sha256(schema.read_text(encoding="utf-8").encode()).hexdigest()
    code, types = out / f"{name}_pb2.py", out / f"{name}_pb2.pyi"
    source = code.read_text(encoding="utf-8")
    if out.name == "api":
        source = source.replace(
            "from google.protobuf import descriptor_pool as", "from caffepy.serve.api import pool as"
        )
        source, stubs = placed(source), placed(types.read_text(encoding="utf-8"))
        types.write_text(stubs, encoding="utf-8", newline="\n")
    code.write_text(f"# sha256 of proto/{name}.proto: {digest}\n{source}", encoding="utf-8", newline="\n")


def placed(source):
    """The code with imports of its neighbours from their package; protoc takes them for top-level modules."""
    return re.sub(r"^import (\w+_pb2) as", r"from caffepy.serve.api import \1 as", source, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
