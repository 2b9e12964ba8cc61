"""What makes a folder of the zoo: facts, nets, a recipe, a README."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill

from caffepy.zoo.catalogue import ZooEntry
from models.definitions import text
from models.definitions.blocks import Net

FILES = {"net": "train_val.prototxt", "solver": "solver.prototxt", "deploy": "deploy.prototxt"}
NO_RUN = "None yet: it needs data that do not come with caffepy. A test runs it forward and backward on small input."


@dataclass(frozen=True)
class Made:
    """A net that is written by functions, with what its README says."""

    name: str
    """Of its folder, too."""
    title: str
    task: str
    what: str
    paper: str
    source: str
    """Whose definition it follows, and where it differs."""
    body: Callable[[bool], Net]
    """The net to train, or to deploy, with Input layers for its data."""
    inputs: dict[str, tuple[int, ...]]
    """Of the deployed net."""
    data: str
    """The layers that read data, as text."""
    solver: str
    """The recipe, without paths."""
    reads: str
    """What pictures it takes, and where they lie."""
    classes: int = 0
    heads: str = ""
    records: int = 0
    published: str = ""
    """The figures of the paper, or of others."""
    runs: str = NO_RUN

    @property
    def entry(self) -> ZooEntry:
        return ZooEntry(
            self.name, self.name, self.task, **FILES, classes=self.classes, heads=self.heads, records=self.records
        )

    def files(self) -> dict[str, str]:
        """The definitions, by name."""
        folder = f"models/{self.name}"
        return {
            "train_val.prototxt": text.page(self.title, self.data, self.body(True)),
            "deploy.prototxt": text.deploy(self.title, self.inputs, self.body(False)),
            "solver.prototxt": f'net: "{folder}/train_val.prototxt"\n{self.solver}'
            f'snapshot_prefix: "{folder}/{self.name}"\n',
        }

    def readme(self, counted: ZooEntry) -> str:
        """The page on it; `counted` has its figures."""
        sums = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in self.files().items()}
        published = f"\nPublished: {self.published}\n" if self.published else ""
        written = "Written by `models/definitions`: change it there, then run `python -m models.definitions`."
        return f"""# {self.title}

{filled(self.what)}

{filled(f"Paper: {self.paper}")}

{filled(f"Source: {self.source} {written}")}

| file | what | SHA-256 |
| --- | --- | --- |
| `train_val.prototxt` | the net for training and testing | `{sums["train_val.prototxt"]}` |
| `solver.prototxt` | the recipe | `{sums["solver.prototxt"]}` |
| `deploy.prototxt` | the net for deployment | `{sums["deploy.prototxt"]}` |

## Size

| input | parameters | GFLOP |
| --- | ---: | ---: |
| {counted.input} | {counted.parameters:,} | {counted.gflop:.4g} |

Running statistics are not counted as parameters; GFLOP are those of the products of one forward pass, a multiply-add
counted as two.
{published}
## Input

{filled(self.reads)}

## Use

From the root of the repository; paths inside the files are relative to it.

    caffepy train --solver models/{self.name}/solver.prototxt
    caffepy time --model models/{self.name}/deploy.prototxt --iterations 10
    caffepy new {self.name} my_net --data DB    # for your own data: docs/zoo.md

## Licence

The files of this folder are part of caffepy and under its licence, BSD-2-Clause; no weights are shipped.

## Recorded runs

{filled(self.runs)}
"""


def filled(prose: str) -> str:
    """Paragraphs in lines of 120; what is indented, and tables, stay."""
    parts = (part if part[0] in " |" else fill(part, 120, break_on_hyphens=False) for part in prose.split("\n\n"))
    return "\n\n".join(parts)
