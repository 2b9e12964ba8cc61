"""Settings: fields that a run has otherwise than its files, `base_lr=0.05`, `net.layer.ip1.param.0.lr_mult=0`.

What is set for the process (`--set`) counts in all solver and net definitions that it reads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from google.protobuf.message import Message

from caffepy.errors import CaffeError, ConfigError, did_you_mean
from caffepy.proto import paths
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter

log = logging.getLogger(__name__)

OF_NET = "net."


class Setting(NamedTuple):
    """A path and its value; `where` is the place that it comes from, for messages."""

    path: str
    value: str
    where: str

    @classmethod
    def parse(cls, word: str) -> Setting:
        """`PATH=VALUE`."""
        path, equals, value = word.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f'"{word}" is no setting', hint="Write PATH=VALUE, for example base_lr=0.05.")
        return cls(path.strip(), value.strip(), f"--set {word}")

    def __str__(self) -> str:
        return f"{self.path}={self.value}"

    def find(self, message: Message, path: str) -> list[paths.Target]:
        """What the setting means in a message, where `path` is the rest of its path."""
        try:
            return paths.find(message, path)
        except CaffeError as error:
            raise error.at(self.where) from None

    def apply(self, message: Message, path: str) -> list[str]:
        """Set all that the setting means there; the paths of that, without patterns."""
        targets = self.find(message, path)
        for target in targets:
            try:
                target.set(target.parse(self.value))
            except CaffeError as error:
                raise error.at(self.where) from None
        return [target.name for target in targets]


class Settings:
    """Settings of a solver and its nets, whose paths begin with `net.`, or, with `of_net`, of a net alone."""

    def __init__(self, given: Iterable[Setting] = (), of_net: bool = False):
        given = tuple(given)
        self.of_net = of_net
        self.nets = [s for s in given if of_net or s.path.startswith(OF_NET)]
        self.solver = [s for s in given if s not in self.nets]
        self.words = [str(s) for s in given]

    def to_solver(self, param: SolverParameter) -> None:
        """Set what is of the solver itself."""
        for setting in self.solver:
            setting.apply(param, setting.path)

    def to_net(self, net: NetParameter) -> None:
        """Set what is of a net."""
        for setting in self.nets:
            setting.apply(net, setting.path.removeprefix(OF_NET))

    def tell(self, nets: Sequence[NetParameter]) -> None:
        """Log what is set; raise ConfigError for a setting that means nothing in any of these nets."""
        for setting in self.solver:
            log.info("Set %s = %s", setting.path, setting.value)
        for setting in self.nets:
            path = setting.path.removeprefix(OF_NET)
            names = dict.fromkeys(target.name for net in nets for target in setting.find(net, path))
            if not names:
                raise nothing(setting, nets)
            for name in names:
                log.info("Set %s%s = %s", "" if self.of_net else OF_NET, name, setting.value)


def inner_nets(param: SolverParameter) -> list[NetParameter]:
    """The nets that are written in a solver definition."""
    single = [getattr(param, f) for f in ("net_param", "train_net_param") if param.HasField(f)]  # type: ignore[arg-type]
    return [*single, *param.test_net_param]


def nothing(setting: Setting, nets: Sequence[NetParameter]) -> ConfigError:
    """What to say of a setting that means nothing in any net."""
    path = setting.path.removeprefix(OF_NET)
    name, _, field = path.removeprefix("layer.").partition(".")
    if "*" in path:
        return ConfigError(f'no layer of "{name}" has {field}', where=setting.where)
    names = dict.fromkeys(layer.name for net in nets for layer in net.layer)
    hint = did_you_mean(name, names) or f"The layers are: {', '.join(names)}."
    return ConfigError(f'no layer is called "{name}"', where=setting.where, hint=hint)


_current = Settings()


def use(words: Sequence[str], of_net: bool = False) -> None:
    """Let these count in all definitions that the process reads from now on."""
    global _current
    _current = Settings(map(Setting.parse, words), of_net)


def current() -> Settings:
    return _current
