"""Generate caffepy/proto/caffe_pb2.py and .pyi from proto/caffe.proto: python proto/generate.py"""

import hashlib
import sys
from importlib import metadata
from pathlib import Path

# The `proto` extra. Code of its protoc (25.1) runs on protobuf 4.25 and everything later; that of newer
# ones refuses any runtime older than itself.
GRPCIO_TOOLS = "1.62.3"
SCHEMA = Path(__file__).with_name("caffe.proto")
OUT = SCHEMA.parents[1] / "caffepy" / "proto"


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
    from grpc_tools import protoc

    arguments = [f"-I{SCHEMA.parent}", f"--python_out={OUT}", f"--pyi_out={OUT}", SCHEMA.name]
    if protoc.main(["protoc", *arguments]):
        sys.exit("proto/generate.py: protoc failed, see above; nothing was written")

    # As text, so that a checkout with other line ends gives the same digest.
    digest = hashlib.sha256(SCHEMA.read_text(encoding="utf-8").encode()).hexdigest()
    code = OUT / "caffe_pb2.py"
    source = code.read_text(encoding="utf-8")
    code.write_text(f"# sha256 of proto/caffe.proto: {digest}\n{source}", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
