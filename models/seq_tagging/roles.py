"""python models/seq_tagging/roles.py FILE: lines of Python's standard library, with the role that each word plays.

Words and tags as TextData reads them: `def <name> ( self )<tab>KEYWORD DEFINED OP ...`. Strings and numbers stand as
`<string>` and `<number>`. What a name is depends on what stands before it and behind it.
"""

from __future__ import annotations

import keyword
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
MODULES = (
    "argparse", "ast", "calendar", "collections/__init__", "configparser", "contextlib", "csv", "dataclasses", "enum",
    "functools", "inspect", "ipaddress", "random", "shutil", "statistics", "subprocess", "textwrap", "threading",
    "typing", "zipfile",
)  # fmt: skip
STANDING_FOR = {tokenize.STRING: "<string>", tokenize.NUMBER: "<number>"}
SKIPPED = {tokenize.INDENT, tokenize.DEDENT, tokenize.NL, tokenize.COMMENT, tokenize.ENCODING}


def lines(file: Path) -> Iterator[list[tokenize.TokenInfo]]:
    """The tokens of every logical line."""
    line: list[tokenize.TokenInfo] = []
    with file.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
                if line:
                    yield line
                line = []
            elif token.type not in SKIPPED:
                line.append(token)


def fits(line: Sequence[tokenize.TokenInfo]) -> bool:
    """Neither short nor long, and of words without blanks: parts of f-strings may have some."""
    return 3 <= len(line) <= 60 and all(t.type in STANDING_FOR or len(t.string.split()) == 1 for t in line)


def role(before: str, token: tokenize.TokenInfo, behind: str) -> str:
    if token.type in STANDING_FOR:
        return STANDING_FOR[token.type].strip("<>").upper()
    if token.type != tokenize.NAME:
        return "OP"
    if keyword.iskeyword(token.string):
        return "KEYWORD"
    if before in ("def", "class"):
        return "DEFINED"
    if behind == "(":
        return "METHOD" if before == "." else "CALLED"
    if before == ".":
        return "ATTRIBUTE"
    if behind == "=":
        return "NAMED" if before in (",", "(") else "ASSIGNED"
    return "NAME"


def tagged(line: Sequence[tokenize.TokenInfo]) -> str:
    words = [STANDING_FOR.get(token.type, token.string) for token in line]
    around = ["", *words, ""]
    tags = [role(around[i], token, around[i + 2]) for i, token in enumerate(line)]
    return f"{' '.join(words)}\t{' '.join(tags)}"


if __name__ == "__main__":
    found = [tagged(line) for name in MODULES for line in lines(LIBRARY / f"{name}.py") if fits(line)]
    Path(sys.argv[1]).write_text("".join(f"{line}\n" for line in found), "utf-8")
