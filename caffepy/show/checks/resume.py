"""Whether a run goes on with the same bits after a snapshot."""

from __future__ import annotations

import numpy as np

from caffepy import rng
from caffepy.show.checks.subject import Fails, Subject
from caffepy.solver.resume_file import from_json, to_json


def exact_resume(subject: Subject) -> str:
    """A new layer with the parameters and the `state()` of one that has run goes on as that one does."""
    one = subject.build()
    for _ in range(3):
        one.forward()
    try:
        state = to_json(one.layer.state())
    except TypeError as error:
        raise Fails(f"{error}: state() returns arrays, numbers, texts, and dicts and lists of them") from None
    parameters = [np.array(blob.host()) for blob in one.layer.blobs]
    random = rng.current().state
    expected = [one.forward() for _ in range(2)]
    other = subject.build()
    for blob, values in zip(other.layer.blobs, parameters):
        blob.fill(values)
    other.layer.set_state(from_json(state))
    rng.current().state = random
    for tops in expected:
        if [(y.shape, y.tobytes()) for y in other.forward()] != [(y.shape, y.tobytes()) for y in tops]:
            raise Fails("after a resume it gives other values: state() returns all that it remembers between passes")
    return "the same bits"
