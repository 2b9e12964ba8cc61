"""`import caffe` means caffepy: what modules written for pycaffe say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Alias(MetaPathFinder, Loader):
    """Finds `caffe` and `caffe.x` as the modules `caffepy` and `caffepy.x`, which stay as they are."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, inner = fullname.partition(".")
        if package != "caffe":
            return None
        if inner:
            ours = sys.modules.get("caffe") is sys.modules["caffepy"]
        else:
            others = [finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self]
            # A mere folder called caffe, such as a checkout's, is found as a namespace without a file.
            ours = not any(spec and spec.origin for spec in others)
        return ModuleSpec(fullname, self) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"caffepy{spec.name.removeprefix('caffe')}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state  # type: ignore[union-attr]  # the import has put its own there


_alias = _Alias()


def caffe_is_caffepy() -> None:
    """From now on `import caffe` gives caffepy, unless there is a real Caffe."""
    # In front: those behind it would find a folder called caffe, and caffe.x as a second copy of caffepy.x.
    if _alias not in sys.meta_path:
        sys.meta_path.insert(0, _alias)
