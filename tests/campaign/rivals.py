"""Two runs with one prefix: the second of two at a time is refused, and one that starts over another loses nothing."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from tests.campaign.child import Child, inside
from tests.campaign.failures import keep
from tests.campaign.kill import Victim, finished, prepared, undisturbed
from tests.campaign.operations import Fault
from tests.campaign.trainings import PREFIX, TRAININGS
from tests.campaign.turns import Turn

_SLOWLY = Fault("write", 1, "slow", lasting=True)


def try_second(name: str) -> str:
    """A second run is refused, with or without --resume; the first does not notice."""
    training = TRAININGS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = prepared(training, place)
        first = Child(training.run, folder, _SLOWLY)
        first.wait_for("Iteration 2, lr")
        with tempfile.TemporaryDirectory() as elsewhere:  # what the first says stays its own
            for arguments in ((), training.again):
                second = Child(partial(_there, folder, training.name, arguments), Path(elsewhere)).wait()
                assert second.status == 1 and "another process" in second.said, second.said[-3000:]
        assert first.wait().status == 0, first.said()[-3000:]
        with inside(folder):
            assert training.result() == undisturbed(training), "a refused rival has changed the bits"
    return "2 refused"


def _there(folder: Path, name: str, arguments: tuple[str, ...]) -> None:
    with inside(folder):
        TRAININGS[name].run(*arguments)


def try_anew(name: str, seed: int) -> str:
    """A run is killed, one that starts anew over it is killed, too, and resumed; the snapshots of the old one stay."""
    training, random = TRAININGS[name], Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory() as place:
        old = Victim(training, prepared(training, place), random)
        old.killed()
        kept = _newest(old.folder, old.done)
        run = Child(training.run, old.folder, _SLOWLY)
        old.wait_for_a_moment(run)
        run.signal(signal.SIGKILL)
        run.wait()
        try:
            _check_kept(old.folder, kept)
            assert finished(training, old.folder, *training.again) == undisturbed(training), "it ends with other bits"
            if list(old.folder.glob(f"{PREFIX}_run_*")):
                _check_kept(old.folder, kept)
        except AssertionError as error:
            story = f"{error}\n{old.story}"
            raise AssertionError(f"{story}\nkept in {keep(f'anew-{name}-{seed}', old.folder, story)}") from None
    return f"{len(kept)} files kept"


def _newest(folder: Path, iteration: int) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(f"{PREFIX}_iter_{iteration}.*")}


def _check_kept(folder: Path, kept: dict[str, bytes]) -> None:
    """They stand somewhere, as they were, together."""
    places = [folder / "out", *folder.glob(f"{PREFIX}_run_*")]
    assert not kept or any(
        all((place / name).exists() and (place / name).read_bytes() == content for name, content in kept.items())
        for place in places
    ), "snapshots of the old run are lost or torn apart"


def turns(seed: int) -> Iterator[Turn]:
    """For every training by turns a rival at the same time and one that starts over it."""
    for number in count(seed):
        for i, name in enumerate(TRAININGS):
            if (i + number) % 2:
                yield Turn(f"second {name}", number, partial(try_second, name))
            else:
                yield Turn(f"anew {name}", number, partial(try_anew, name, number))
