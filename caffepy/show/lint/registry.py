"""The rules: small functions that look at one thing, called after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from caffepy.net.build import Node
from caffepy.show.draft import Draft
from caffepy.show.lint.finding import WARNING

if TYPE_CHECKING:
    from caffepy.show.lint.solvers import SolverSubject


class Fault(NamedTuple):
    """What a rule says. The place is that of the layer, or of the solver's field, or the file."""

    message: str
    remedy: str = ""
    node: Node | None = None
    field: str = ""
    level: str = WARNING


StateRule = Callable[[Draft], Iterable[Fault]]
NetRule = Callable[[list[Draft]], Iterable[Fault]]
SolverRule = Callable[["SolverSubject"], Iterable[Fault]]
R = TypeVar("R", bound=Callable)

STATE_RULES: dict[str, StateRule] = {}
"""About a net in one state, all of whose layers are there, with or without shapes."""
NET_RULES: dict[str, NetRule] = {}
"""About all states of a net together."""
SOLVER_RULES: dict[str, SolverRule] = {}


def of_state(rule: StateRule) -> StateRule:
    """Function decorator: the rule looks at each state of a net."""
    return _add(STATE_RULES, rule)


def of_net(rule: NetRule) -> NetRule:
    """Function decorator: the rule looks at all states of a net."""
    return _add(NET_RULES, rule)


def of_solver(rule: SolverRule) -> SolverRule:
    """Function decorator: the rule looks at a solver and the nets that it names."""
    return _add(SOLVER_RULES, rule)


def _add(rules: dict[str, R], rule: R) -> R:
    rules[rule.__name__.replace("_", "-")] = rule
    return rule
