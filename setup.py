"""The wheel holds the zoo, too: models/ as caffepy/models. All else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# What training leaves behind, and data sets.
LEFT_OUT = (
    "*_lmdb",
    "*.caffemodel",
    "*.solverstate",
    "*.resume",
    "*.log",
    ".*.lock",
    "*.h5",
    "*.gz",
    "*.npz",
    "census",
    "shapes",
    "text",
    "data",
    "pictures",
    "__pycache__",
)


class BuildWithModels(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "caffepy", "models")
            shutil.rmtree(target, ignore_errors=True)  # a definition of an older build
            shutil.copytree(Path(__file__).parent / "models", target, ignore=shutil.ignore_patterns(*LEFT_OUT))


setup(cmdclass={"build_py": BuildWithModels})
