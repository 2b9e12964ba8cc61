"""python models/sentence_cnn/packages.py FILE: lines of docstrings of Python's library, and the package they are from.

A sentence, a tab and a label for each line, as TextData reads them.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
PACKAGES = ("asyncio", "email", "logging", "multiprocessing", "tkinter", "unittest", "urllib", "xml")
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sentences(package: Path) -> Iterator[str]:
    """Lines of at least five words, each once; the package's own name is left out."""
    seen = set()
    for file in sorted(package.rglob("*.py")):
        if "test" in file.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            text = ast.get_docstring(node) if isinstance(node, KINDS) else None
            for line in (text or "").splitlines():
                words = line.replace(package.name, "").split()
                if len(words) >= 5 and (sentence := " ".join(words)) not in seen:
                    seen.add(sentence)
                    yield sentence


if __name__ == "__main__":
    lines = [f"{sentence}\t{name}\n" for name in PACKAGES for sentence in sentences(LIBRARY / name)]
    Path(sys.argv[1]).write_text("".join(lines), "utf-8")
