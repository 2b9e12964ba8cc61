"""A solver with the nets that it names: what a trial changes, writes into its folder and runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from caffepy.errors import DataError
from caffepy.files import atomic_write, read_text
from caffepy.proto import settings, text
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
from caffepy.proto.paths import Target
from caffepy.proto.settings import OF_NET, Setting, Settings


class Model:
    """A solver definition, and the nets that its files hold, by name."""

    def __init__(self, solver: SolverParameter, nets: dict[str, NetParameter]):
        self.solver, self.nets = solver, nets

    @classmethod
    def read(cls, file: str) -> Model:
        return cls.of(text.read_solver(file))

    @classmethod
    def of(cls, solver: SolverParameter) -> Model:
        return cls(solver, {name: text.definition(name).param for name in text.net_files(solver)})

    def all_nets(self) -> list[NetParameter]:
        return [*self.nets.values(), *settings.inner_nets(self.solver)]

    def copy(self) -> Model:
        solver = SolverParameter()
        solver.CopyFrom(self.solver)
        nets = {name: NetParameter() for name in self.nets}
        for name, net in nets.items():
            net.CopyFrom(self.nets[name])
        return Model(solver, nets)

    def find(self, setting: Setting) -> list[Target]:
        """What a setting means in the solver or in any of its nets; raises ConfigError where it is nothing."""
        if not setting.path.startswith(OF_NET):
            return setting.find(self.solver, setting.path)
        path = setting.path.removeprefix(OF_NET)
        found = [target for net in self.all_nets() for target in setting.find(net, path)]
        if not found:
            raise settings.nothing(setting, self.all_nets())
        return found

    def set(self, given: Iterable[Setting]) -> Model:
        """The same with these settings."""
        out, chosen = self.copy(), Settings(given)
        chosen.to_solver(out.solver)
        for net in out.all_nets():
            chosen.to_net(net)
        return out

    def write(self, folder: Path) -> Path:
        """Write all as prototxt into the folder; the solver's file, which names the nets there.

        Raises DataError where the folder has other definitions: its snapshots and results would be taken for these.
        """
        solver = SolverParameter()
        solver.CopyFrom(self.solver)
        files: dict[Path, SolverParameter | NetParameter] = {}
        for field in ("net", "train_net"):
            if solver.HasField(field):  # type: ignore[arg-type]
                path = folder / f"{field}.prototxt"
                files[path] = self.nets[getattr(solver, field)]
                setattr(solver, field, str(path))
        for i, name in enumerate(solver.test_net):
            path = folder / f"test_net_{i}.prototxt"
            files[path] = self.nets[name]
            solver.test_net[i] = str(path)
        files[folder / "solver.prototxt"] = solver
        for path, message in files.items():
            if path.exists() and read_text(path) != text.to_text(message):
                raise DataError("it is of another search", where=str(path), hint="Remove its folder, or set --folder.")
        for path, message in files.items():
            write(path, message)
        return path

    def digest(self) -> str:
        """Of all that a trial does not change."""
        texts = (text.to_text(message) for message in (self.solver, *self.nets.values()))
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def prepared(self, seed: int) -> Model:
        """As a trial runs it: resumable, repeatable, with snapshots in the folder of its solver's file."""
        out = self.copy()
        p = out.solver
        p.ClearField("snapshot_prefix")
        if p.random_seed < 0:
            p.random_seed = seed
        if not p.snapshot:
            p.snapshot, p.snapshot_keep = p.test_interval, p.snapshot_keep or 1
        p.snapshot_after_train = True
        return out


def write(path: Path, message: SolverParameter | NetParameter) -> None:
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text.to_text(message))


def lines_apart(a: str, b: str) -> Iterator[tuple[str, str]]:
    """The lines in which two texts differ, as they come."""
    one, two = a.splitlines(), b.splitlines()
    for i in range(max(len(one), len(two))):
        pair = tuple(lines[i].strip() if i < len(lines) else "" for lines in (one, two))
        if pair[0] != pair[1]:
            yield pair[0], pair[1]
