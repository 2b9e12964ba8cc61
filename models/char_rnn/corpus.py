"""python models/char_rnn/corpus.py FILE: Python's licence and the docstrings of its standard library, as one text."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(file: Path) -> Iterator[str]:
    """Those of a module, its classes and functions, in order."""
    tree = ast.parse(file.read_bytes())
    nodes = sorted((n for n in ast.walk(tree) if isinstance(n, KINDS)), key=lambda node: getattr(node, "lineno", 0))
    for node in nodes:
        if text := ast.get_docstring(node):
            yield cleandoc(text)


def licence() -> str:
    """Python's, as the interpreter shows it; the first page is enough where the file is missing."""
    found = [folder / "LICENSE.txt" for folder in (LIBRARY, LIBRARY.parents[1], Path(sys.base_prefix))]
    return next((path.read_text("utf-8") for path in found if path.is_file()), sys.copyright)


def corpus() -> str:
    """The licence, then the docstrings of the modules that lie in the library's folder, by name; ASCII alone."""
    texts = [licence(), *(text for file in sorted(LIBRARY.glob("*.py")) for text in docstrings(file))]
    return "\n\n".join(text for text in texts if text.isascii()) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(corpus(), "utf-8")
