"""Whether a layer takes another number of items, as the last batch of a data set may have, and comes back from it."""

from __future__ import annotations

import numpy as np

from caffepy.errors import CaffeError
from caffepy.show.checks.subject import Fails, Subject, check_same


def shapes(subject: Subject) -> str:
    """Values are finite; for other numbers of items they are those of a new layer, and afterwards as before."""
    alone = subject.build()
    first = subject.forward(alone)
    if not all(np.isfinite(y).all() for y in first):
        raise Fails("forward gives values that are not finite")
    shape = ", ".join(str(y.shape) for y in first) or "no top"
    if not subject.bottoms or not all(bottom.shape for bottom in subject.bottoms):
        return shape
    refused = ""
    keeps = bool(alone.layer.state())  # what one pass leaves for the next: values are not to be compared then
    tolerance = np.inf if keeps else 1e-5
    for items in (subject.bottoms[0].shape[0] + 1, 1):
        try:
            found = subject.forward(alone, subject.values(items))
            expected = subject.forward(subject.build(items), subject.values(items))
        except CaffeError as error:
            refused = f"; refuses {items} item(s): {error.message}"
            continue
        check_same(found, expected, f"with {items} item(s), where there were others, it", "a new layer", tolerance)
    check_same(subject.forward(alone), first, "after other numbers of items it", "before them", tolerance)
    return shape + (refused or "; as well with other numbers of items, and back")
