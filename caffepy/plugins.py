"""What others add: registries, which find things by name, and the modules that fill them.

A package says in its `pyproject.toml` which of its modules register something:

    [project.entry-points."caffepy.plugins"]
    my_layers = "my_package.layers"

A module of no package is named on the command line with `--import`, or in Python with `caffepy.plugins.load`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from os import PathLike
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, TypeVar

from caffepy.errors import CaffeError, ConfigError, described, did_you_mean, origin
from caffepy.files import near_names

T = TypeVar("T")

GROUP = "caffepy.plugins"
_MOST_NAMES = 20

_lock = RLock()
_begun: set[str] = set()
"""Entry points that are imported, or just now being so: a plugin may look something up while it is."""


class Registry(dict[str, T]):
    """Things of a `kind` by name, as a prototxt names them; `plural` is what a list of them is called.

    `own` are caffepy's modules, or packages of modules, that fill it. They and all plugins are imported before
    something is first looked up. A name is given once: to give it again is an error, unless it is to the same class
    or function, written anew in a notebook, or with `replace`.
    """

    def __init__(self, kind: str, plural: str, own: Sequence[str] = ()):
        super().__init__()
        self.kind, self.plural, self.own = kind, plural, own
        self._owners: dict[str, str] = {}
        self._complete = not own
        self._lock = RLock()

    def register(self, name: str, thing: T, by: Any = None, replace: bool = False) -> None:
        """Let `name` mean `thing`; `by` is the class or function that stands behind it, where that is not itself."""
        code = thing if by is None else by
        owner = f"{code.__module__}.{code.__qualname__}"  # type: ignore[union-attr]
        if not owner.startswith("caffepy."):
            self._load_own()  # else a name of ours would look free
        before = self._owners.get(name, owner)
        if before != owner and not replace:
            raise ConfigError(
                f'the {self.kind} "{name}" of {owner} is that of {before} already',
                hint="Choose another name, or register it with replace=True.",
            )
        self[name], self._owners[name] = thing, owner

    def find(self, name: str) -> T:
        """What `name` means. Raises ConfigError with the nearest name, or all of them, where there is no such thing."""
        self.complete()
        if name not in self:
            raise ConfigError(f'unknown {self.kind} "{name}"', hint=did_you_mean(name, self) or self.known())
        return self[name]

    def known(self) -> str:
        """A sentence that lists what there is, or says where more may be."""
        if len(self) > _MOST_NAMES:
            return f"If it is your own, name the module that registers it: --import my_{self.plural}."
        return f"Known {self.plural}: {', '.join(self)}."

    def complete(self) -> None:
        """Import what registers something, where that is not done yet."""
        self._load_own()
        load_installed()

    def _load_own(self) -> None:
        with self._lock:  # not that of plugins: one may register something while another thread loads them
            if not self._complete:
                for name in self.own:
                    module = importlib.import_module(name)
                    for inner in pkgutil.iter_modules(getattr(module, "__path__", ())):
                        importlib.import_module(f"{name}.{inner.name}")
                self._complete = True


def load_installed() -> None:
    """Import the plugins of all installed packages, once. Raises ConfigError that names the package at fault."""
    with _lock:
        for point in _entry_points():
            if point.value in _begun:
                continue
            _begun.add(point.value)
            try:
                point.load()
            except Exception as error:
                _begun.discard(point.value)
                package = point.dist.name if point.dist else point.module
                raise ConfigError(
                    f'the plugin "{point.name}" of the package {package} cannot be imported: {described(error)}',
                    hint=f"{origin(error)} Mend the package, or remove it: pip uninstall {package}".lstrip(),
                ) from error


@cache
def _entry_points() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=GROUP))


def load(name: str | PathLike[str]) -> ModuleType:
    """Import a module by its dotted name or the path of its `.py` file, so that what it registers is known.

    It is looked for on the Python path and in the current folder; the folder of a file joins the path.
    Raises ConfigError with the nearest name where there is no such module, and where it cannot be imported.
    """
    name = os.fspath(name)
    if name.endswith(".py"):
        return _load_file(Path(name))
    return _import(name, _current_folder())


def is_there(name: str) -> bool:
    """Whether `load` would find a module of this dotted name. Packages around it are imported, it is not."""
    _current_folder()
    importlib.invalidate_caches()
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _current_folder() -> str:
    """The folder that the process works in; modules are found there, too."""
    folder = os.getcwd()
    if "" not in sys.path and folder not in sys.path:
        sys.path.append(folder)
    return folder


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError("there is no such file", where=str(path), hint=near_names(path))
    folder = str(path.parent.absolute())
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()
    found = importlib.util.find_spec(path.stem)
    if found is None or not found.origin or not os.path.exists(found.origin) or not path.samefile(found.origin):
        place = found.origin if found and found.origin else "another module"
        raise ConfigError(
            f'the file cannot be imported as "{path.stem}", which is {place}',
            where=str(path),
            hint="Rename the file.",
        )
    return _import(path.stem, folder)


def _import(name: str, folder: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except CaffeError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ConfigError(
                f'no module "{name}" on the Python path or in {folder}',
                hint=did_you_mean(name, _modules_beside(name)) or "Set PYTHONPATH to the folder that holds it.",
            ) from None
        raise ConfigError(f'the module "{name}" cannot be imported: {described(error)}', hint=origin(error)) from error


def _modules_beside(name: str) -> list[str]:
    """Importable modules of the package that `name` is said to be in."""
    package, _, _ = name.rpartition(".")
    parent = sys.modules.get(package)
    if package and parent is None:
        return []
    path = getattr(parent, "__path__", None)
    prefix = f"{package}." if package else ""
    return [prefix + module.name for module in pkgutil.iter_modules(path)]
