"""One name, one thing: a class of one name stands in one file, or its namesakes are the same noun on purpose."""

import ast
from collections import defaultdict
from pathlib import Path

import caffepy

PACKAGE = Path(caffepy.__file__).parent
NAMESAKES = {
    "ConvPlan",  # each engine's plan of one contract
    "PoolPlan",
    "Net",  # pycaffe's facade of the core's
    "Solver",
    "Sequence",  # of layers: in Keras' words, and in prototxt's
}


def test_no_two_classes_share_a_name():
    files = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        if path.stem.endswith(("_pb2", "_pb2_grpc")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].add(str(path.relative_to(PACKAGE)))
    twice = {name: sorted(found) for name, found in files.items() if len(found) > 1 and name not in NAMESAKES}
    assert not twice
