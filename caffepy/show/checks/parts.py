"""Whether parts of a batch, each computed by a copy of the layer, give what the layer gives for the whole batch."""

from __future__ import annotations

import numpy as np

from caffepy.net.alone import Alone
from caffepy.net.build import Node
from caffepy.passes.divided import Part, divisible
from caffepy.show.checks.subject import Fails, Skipped, Subject, check_same, weights


def in_parts(subject: Subject) -> str:
    """The same values, bottom gradients and sums of parameters' gradients, where the layer says that it is divisible.

    The parts are two halves.
    """
    whole = subject.build()
    if not subject.engine.divides:
        raise Skipped("this engine computes whole batches")
    if not divisible(whole.layer):
        return "over whole batches: it does not say divisible()"
    values = subject.forward(whole)
    items = {blob.shape[:1] for blob in (*whole.bottom, *whole.top)}
    if not whole.bottom or len(items) > 1 or items <= {(), (0,), (1,)}:
        raise Skipped("its blobs do not all have several items")
    divided = subject.build()
    parts = _parts(divided)
    for part in parts:
        part.forward(0)
    check_same([blob.host() for blob in divided.top], values, "in parts of the batch it", "over the whole", 1e-5)
    try:
        gradients = subject.backward(whole, values)
    except Skipped:
        return "the same values"
    wanted = subject.wanted(divided.layer)
    for blob in (*divided.bottom, *divided.layer.blobs):
        blob.diff[...] = 0
    for blob, diff in zip(divided.top, weights(values)):
        blob.fill(diff, "diff")
    for part in parts:
        part.backward(0, wanted)
    for blob in divided.layer.blobs:
        for part in parts[1:]:
            blob.flat("diff")[...] += part.gradients[id(blob)]
    blobs = zip((*divided.bottom, *divided.layer.blobs), (*wanted, *subject.trained(divided.layer)))
    found = [np.array(blob.host("diff")) for blob, is_wanted in blobs if is_wanted]
    try:
        check_same(found, gradients, "backward in parts of the batch", "over the whole", 1e-4)
    except Fails as reason:
        raise Fails(f"{reason}. Gradients of parameters must be sums over items") from None
    return "the same values and gradients"


def _parts(alone: Alone) -> list[Part]:
    node = Node(alone.layer, "", [], [], alone.bottom, alone.top, [True] * len(alone.bottom))
    alone.layer.reshape(alone.bottom, alone.top)
    alone.layer.link(alone.bottom, alone.top)
    for blob in (*alone.bottom, *alone.top, *alone.layer.blobs):
        for which in ("data", "diff"):
            blob.flat(which)
    return [Part(alone.engine, {0: node}, number, 2) for number in range(2)]
