"""`import caffe` means caffepy, for a while: what modules written for pycaffe say."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Alias(MetaPathFinder, Loader):
    """Finds `caffe` and `caffe.x` as the modules `caffepy` and `caffepy.x`, which stay as they are."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.partition(".")[0] == "caffe" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"caffepy{spec.name.removeprefix('caffe')}")
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import has put its own there


@contextmanager
def caffe_is_caffepy() -> Iterator[None]:
    """Within it, `import caffe` gives caffepy, unless a real Caffe is installed."""
    spec = None if "caffe" in sys.modules else PathFinder.find_spec("caffe")
    # A mere folder called caffe, such as a checkout's, is found as a namespace without a file.
    if "caffe" in sys.modules or (spec and spec.origin):
        yield
        return
    alias = _Alias()
    sys.meta_path.insert(0, alias)
    try:
        yield
    finally:
        sys.meta_path.remove(alias)
        for name in [n for n in sys.modules if n.partition(".")[0] == "caffe"]:
            del sys.modules[name]
