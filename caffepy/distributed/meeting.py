"""How processes that were just started find each other in a store where an earlier start may have left its keys."""

from __future__ import annotations

import secrets
import time
from typing import Any

_PAUSE = 0.01


def meet(store: Any, rank: int, size: int, patience: float = 300) -> str:
    """A name that these `size` processes agree on and no earlier start had: a prefix for their keys.

    torchrun may restart the processes on the same store; addresses of those that are gone would then be taken for
    the new ones'. So every process asks with a number of its own, rank 0 answers until all have confirmed its name.
    Raises TimeoutError when that takes longer than `patience` seconds.
    """
    deadline = time.monotonic() + patience
    if rank:
        nonce = secrets.token_hex(8)
        store.set(f"caffepy/ask/{rank}", nonce)
        while not store.check([f"caffepy/answer/{nonce}"]):
            _pause(deadline, "the first process does not answer")
        name = store.get(f"caffepy/answer/{nonce}").decode()
        store.set(f"caffepy/{name}/{rank}", "1")
        return name
    name, missing = secrets.token_hex(8), set(range(1, size))
    while missing:
        for other in sorted(missing):
            if store.check([f"caffepy/{name}/{other}"]):
                missing.discard(other)
            elif store.check([f"caffepy/ask/{other}"]):
                nonce = store.get(f"caffepy/ask/{other}").decode()
                store.set(f"caffepy/answer/{nonce}", name)
        if missing:
            _pause(deadline, f"process {', '.join(map(str, sorted(missing)))} of {size} did not come")
    return name


def exchange(store: Any, rank: int, size: int, value: str) -> list[str]:
    """What each of the processes says, in their order; for processes that have met, in a store of their own."""
    store.set(f"caffepy/says/{rank}", value)
    said = [store.get(f"caffepy/says/{other}").decode() for other in range(size)]
    store.set(f"caffepy/heard/{rank}", "1")
    if not rank:  # the store may end with this process, should what it heard be a reason to
        store.wait([f"caffepy/heard/{other}" for other in range(size)])
    return said


def _pause(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(problem)
    time.sleep(_PAUSE)
