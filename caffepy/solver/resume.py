"""What a resume needs beyond Caffe's files: data cursors, generators, recurrent states, the window of losses."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from caffepy.errors import CaffeError, SnapshotError, described
from caffepy.proto import settings
from caffepy.solver import resume_file
from caffepy.solver.fields import Malformed, like
from caffepy.solver.resume_file import AS_CAFFE
from caffepy.solver.training import Training

if TYPE_CHECKING:
    from caffepy.net.layer import Layer
    from caffepy.net.net import Net

log = logging.getLogger(__name__)

_FOREIGN = LookupError, TypeError, ValueError, AttributeError
"""What setting the state of another layer or solver raises."""

STORABLE = "state() returns numbers, texts, arrays, lists and dicts of them by texts."


def remember(solver: Training, files: dict[str, list[int]]) -> dict[str, Any]:
    """What a snapshot holds beyond Caffe's two files, whose sizes and checksums are `files`."""
    return {
        "iter": solver.iter,
        "run": solver.claim.run._asdict(),
        "files": {os.path.basename(path): digest for path, digest in files.items()},
        "set": settings.current().words,
        **(solver.before_test or moving(solver)),
    }


def moving(solver: Training) -> dict[str, Any]:
    """What tests move on as training does: the generator, the states of all layers and listeners."""
    nets = [solver.net, *solver.test_nets]
    layers = [{name: state for name, layer in _by_name(net) if (state := _state(layer))} for net in nets]
    return {"random": solver.random.state, "layers": layers, **solver.state()}


def _state(layer: Layer) -> dict[str, Any]:
    """Raises SnapshotError where a layer of the user's fails to say it."""
    try:
        return layer.state()
    except CaffeError:
        raise
    except Exception as error:
        problem = f'the state of layer "{layer.name}" cannot be had: {described(error)}'
        raise SnapshotError(problem, hint=STORABLE) from error


def before(solver: Training) -> dict[str, Any]:
    """A copy of what is `moving`; one of the user's that has not run may have nothing to remember yet."""
    nets = [solver.net, *solver.test_nets]
    layers = [{name: state for name, layer in _by_name(net) if (state := _so_far(layer))} for net in nets]
    if not (rest := _so_far(solver)):
        listeners = {name: state for name, listener in solver.listeners.named() if (state := _so_far(listener))}
        rest = {"smoothed_loss": solver.smoothed_loss.state(), "listeners": listeners}
    return deepcopy({"random": solver.random.state, "layers": layers, **rest})


def _so_far(remembers: Any) -> dict[str, Any]:
    try:
        return remembers.state()
    except (AttributeError, SnapshotError):  # of what it, or one of the solver's listeners, makes when it first runs
        return {}


def check_states(solver: Training) -> None:
    """Raises SnapshotError for the first layer or listener whose state a snapshot cannot hold."""
    nodes = [node for net in (solver.net, *solver.test_nets) for node in net.nodes]
    owners = [(node.place, node.layer) for node in nodes]
    for owner, remembers in [*owners, *((f'listener "{listener.name}"', listener) for listener in solver.listeners)]:
        try:
            resume_file.to_json(_so_far(remembers))
        except (TypeError, ValueError, RecursionError) as error:
            raise SnapshotError(f"its state cannot be written: {error}", where=owner, hint=STORABLE) from None


def check(solver: Training, remembered: dict[str, Any], where: str) -> None:
    """Raises SnapshotError where the state of one of our layers is not built as it is now."""
    for net, states in zip([solver.net, *solver.test_nets], remembered["layers"]):
        for name, layer in _by_name(net):
            if name in states and type(layer).__module__.startswith("caffepy."):
                try:
                    like(layer.state())(states[name], "it")
                except Malformed as error:
                    raise _not_its_state(layer, error, where) from None


def restore(solver: Training, remembered: dict[str, Any], where: str) -> None:
    """Set the generator, the layers' states and the solver's."""
    if remembered.get("set", words := settings.current().words) != words:
        log.warning("%s: it was written with --set %s", where, " ".join(remembered["set"]) or "of nothing")
    nets = [solver.net, *solver.test_nets]
    if len(nets) != len(remembered["layers"]):
        log.warning("%s: it is of a solver with %d nets, this one has %d", where, len(remembered["layers"]), len(nets))
    for net, states in zip(nets, remembered["layers"]):
        for name, layer in _by_name(net):
            if name not in states and _so_far(layer):
                log.warning('%s: there is no state of layer "%s", which starts anew', where, name)
    _set(solver, remembered, where)


@contextmanager
def undone(solver: Training) -> Iterator[None]:
    """An error in the block leaves generator, layers and solver as they are now."""
    found = before(solver)
    try:
        yield
    except BaseException:
        with suppress(SnapshotError):  # of one that takes no state: those behind it have not been changed
            _set(solver, found, "")
        raise


def _set(solver: Training, remembered: dict[str, Any], where: str) -> None:
    solver.random.state = remembered["random"]
    for net, states in zip([solver.net, *solver.test_nets], remembered["layers"]):
        for name, layer in _by_name(net):
            if name in states:
                try:
                    layer.set_state(states[name])
                except _FOREIGN as error:  # of a layer of the user's
                    raise _not_its_state(layer, error, where) from error
    try:
        solver.set_state(remembered)
    except SnapshotError as error:
        error.hint = error.hint or AS_CAFFE
        raise error.at(where) from error.__cause__
    except _FOREIGN as error:
        problem = f"the solver's state is not one of this solver: {error}"
        raise SnapshotError(problem, where=where, hint=AS_CAFFE) from error


def _not_its_state(layer: Layer, error: Exception, where: str) -> SnapshotError:
    return SnapshotError(
        f'the state of layer "{layer.name}" is not one of this net: {error}', where=where, hint=AS_CAFFE
    )


def _by_name(net: Net) -> Iterator[tuple[str, Layer]]:
    """Each layer with a name of its own: further layers of one name have their index behind it."""
    seen: set[str] = set()
    for i, layer in enumerate(net.layers):
        yield f"{layer.name}/{i}" if layer.name in seen else layer.name, layer
        seen.add(layer.name)
