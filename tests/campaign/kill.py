"""kill -9 at random moments, then --resume: nothing is lost, and the end is that of a run that nobody disturbed.

Some are not killed but stopped and go on; some write slowly, so that a moment lies in the middle of a snapshot more
often; some find the clock set back or ahead when they resume.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.child import Child, Running, Started, inside
from tests.campaign.failures import keep
from tests.campaign.operations import Fault
from tests.campaign.trainings import PREFIX, TRAININGS, Training
from tests.campaign.turns import Turn

_MOST = 4
"""Kills of one run."""
_STRIDE = 10
"""Iterations that are done before the next, at most."""
_PROGRAMS = 0.12
"""Share of those that are started as programs, which takes as long as a dozen of the others."""
_SLOWLY = Fault("write", 1, "slow", lasting=True)


def prepared(training: Training, place: str) -> Path:
    folder = Path(place, training.name)
    folder.mkdir()
    with inside(folder):
        training.prepare()
    return folder


@lru_cache(None)
def undisturbed(training: Training) -> dict[str, Any]:
    """What it ends with."""
    with tempfile.TemporaryDirectory() as place:
        return finished(training, prepared(training, place))


def finished(training: Training, folder: Path, *arguments: str) -> dict[str, Any]:
    """What the run, or the rest of it, ends with."""
    outcome = Child(partial(training.run, *arguments), folder).wait()
    assert outcome.status == 0, f"status {outcome.status}: {outcome.said[-3000:]}"
    with inside(folder):
        return training.result()


class Victim:
    """A run that is killed again and again; `story` is what was done to it."""

    def __init__(self, training: Training, folder: Path, random: Random):
        self.training, self.folder, self.random = training, folder, random
        self.arguments: tuple[str, ...] = ()
        self.story: list[str] = []
        self.done = 0

    def started(self) -> Running:
        if self.random.random() < _PROGRAMS:
            self.story.append(f"program {self.arguments}")
            return Started(self.training.command(*self.arguments), self.folder)
        fault = self.random.choice([Fault(), _SLOWLY])
        self.story.append(f"child {self.arguments} {fault}")
        return Child(partial(self.training.run, *self.arguments), self.folder, fault)

    def wait_for_a_moment(self, run: Running) -> None:
        """One in eight while it starts, all others from a random iteration on."""
        if self.random.random() < 0.125:
            moment = self.random.uniform(0, 0.5)
        else:
            iteration = self.random.randrange(self.done, min(self.done + _STRIDE, self.training.iterations))
            run.wait_for(f"Iteration {iteration}, lr")
            moment = self.random.uniform(0, 0.1)
            self.story.append(f"iteration {iteration}")
        time.sleep(moment)
        self.story.append(f"{moment:.3f} s")

    def killed(self) -> bool:
        """Start and kill it; whether it had not ended before. Raises AssertionError if something is lost."""
        run = self.started()
        self.wait_for_a_moment(run)
        run.signal(signal.SIGKILL)
        outcome = run.wait()
        assert outcome.status in (0, -signal.SIGKILL), f"status {outcome.status}: {outcome.said[-3000:]}"
        self.check(outcome.said)
        self.arguments = self.training.again
        return outcome.status != 0

    def check(self, said: str) -> None:
        """The newest snapshot is whole and is that of the last iteration that was begun."""
        begun = [int(number) for number in re.findall(r"Iteration (\d+), lr", said)]
        with inside(self.folder):
            self.done = self.training.check()
        assert self.done >= max(begun, default=0), f"iteration {begun[-1]} was begun, {self.done} is the newest"

    def set_clock(self) -> None:
        """Dates of files as they are where the clock was wrong for a while."""
        for path in self.folder.glob(f"{PREFIX}_*"):
            seconds = time.time() + self.random.uniform(-1e8, 1e8)
            os.utime(path, (seconds, seconds))
        self.story.append("the clock was wrong")


def try_kills(name: str, seed: int) -> str:
    """One run, killed up to four times. Raises AssertionError with the story where it loses something."""
    training, random = TRAININGS[name], Random(f"{name} {seed}")
    expected = undisturbed(training)
    with tempfile.TemporaryDirectory() as place:
        victim = Victim(training, prepared(training, place), random)
        kills = 0
        try:
            for _ in range(random.randint(1, _MOST)):
                if not victim.killed():
                    break
                kills += 1
                if random.random() < 0.25:
                    victim.set_clock()
                if victim.done == training.iterations:
                    break
            assert finished(training, victim.folder, *training.again) == expected, "it ends with other bits"
            left = list(victim.folder.rglob(".*.tmp"))
            assert not left, f"{left} is left"
        except AssertionError as error:
            raise _kept(victim, f"kill-{name}-{seed}", error) from None
    return f"{kills} kills, 0 lost"


def try_stop(name: str, seed: int) -> str:
    """One run, stopped for a while. Raises AssertionError if what lies there then is not whole."""
    training, random = TRAININGS[name], Random(f"{name} {seed}")
    expected = undisturbed(training)
    with tempfile.TemporaryDirectory() as place:
        victim = Victim(training, prepared(training, place), random)
        try:
            run = victim.started()
            victim.wait_for_a_moment(run)
            run.signal(signal.SIGSTOP)
            victim.check(run.said())
            copy = Path(shutil.copytree(victim.folder, f"{place}/copy"))
            assert finished(training, copy, *training.again) == expected, "a copy ends with other bits"
            run.signal(signal.SIGCONT)
            assert run.wait().status == 0, run.said()[-3000:]
            with inside(victim.folder):
                assert training.result() == expected, "stopped for a while, it ends with other bits"
        except AssertionError as error:
            run.signal(signal.SIGKILL)
            raise _kept(victim, f"stop-{name}-{seed}", error) from None
    return "1 stop, 0 lost"


def _kept(victim: Victim, name: str, error: AssertionError) -> AssertionError:
    """What lies in the folder shows it without the run: the rest of it is not needed, so it is minimal."""
    story = "\n".join([f"{error}", *victim.story, f"To see it again: {' '.join(victim.training.command('--resume'))}"])
    return AssertionError(f"{story}\nkept in {keep(name, victim.folder, story)}")


def turns(seed: int) -> Iterator[Turn]:
    """Every training is killed; every fourth time one is stopped instead."""
    for number in count(seed):
        for i, name in enumerate(TRAININGS):
            act, does = ("stop", try_stop) if (i + number) % 4 == 3 else ("kill", try_kills)
            yield Turn(f"{act} {name}", number, partial(does, name, number))
