"""python -m models.definitions: write the nets of `catalogue`, and count all nets of the zoo anew."""

from __future__ import annotations

from caffepy.zoo.catalogue import INDEX, entries, zoo_folder
from models.definitions.catalogue import ALL
from models.definitions.counts import counted, written


def main() -> None:
    zoo, made = zoo_folder(), {each.name: each for each in ALL}
    for each in ALL:
        (zoo / each.name).mkdir(exist_ok=True)
        for name, content in each.files().items():
            (zoo / each.name / name).write_text(content, encoding="utf-8")
    others = [entry for entry in entries() if entry.name not in made]
    pictures, tables = ([e for e in others if ("/" in e.name) == nested] for nested in (False, True))
    found = [counted(entry) for entry in [*pictures, *(each.entry for each in ALL), *tables]]
    (zoo / INDEX).write_text(written(found), encoding="utf-8")
    for entry in found:
        if entry.name in made:
            (zoo / entry.folder / "README.md").write_text(made[entry.name].readme(entry), encoding="utf-8")


if __name__ == "__main__":
    main()
