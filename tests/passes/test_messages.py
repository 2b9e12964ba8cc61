"""What a user is told whose layers ran together, or did not run."""

from __future__ import annotations

import pytest

from caffepy.errors import ConfigError
from caffepy.passes import Observer, Whole
from tests.passes.nets import build, passes


def test_a_layer_whose_parts_have_run_refuses_to_run_backward():
    net = build()
    passes(net, 1)
    node = next(node for node in net.nodes if node.layer.kept_by is not None)
    with pytest.raises(ConfigError) as caught:
        node.layer.backward(node.top, node.bottom_need_backward, node.bottom)
    assert str(caught.value) == (
        "the layer has not run forward itself: copies of it have computed parts of the batch, or it was computed as "
        "one with others\n"
        "  Run backward through the net, or forward with caffepy.passes.Whole."
    )


def test_an_observer_may_not_reshape_what_runs_together():
    net = build()
    passes(net, 1)

    class Meddler(Observer):
        every_layer = True

        def before_layers(self, layers, backward):
            if net.nodes[layers[0]].layer.name == "relu" and not backward:
                net.blobs["norm"].reshape(1, *net.blobs["norm"].shape[1:])

    net.observers.append(Meddler())
    with pytest.raises(ConfigError) as caught:
        net.forward()
    assert str(caught.value).endswith(
        "an observer has changed shapes or memory of blobs in the middle of layers that run together\n"
        "  Change them before the pass."
    )


def test_backward_without_what_forward_left():
    net = build()
    passes(net, 1)
    for node in net.nodes:
        if node.layer.kept_by is not None:
            node.layer.kept_by = lambda: None
    with pytest.raises(ConfigError) as caught:
        Whole(net).backward()
    assert str(caught.value) == (
        "backward needs what forward has left, but a pass has been stopped or blobs have changed since then\n"
        "  Run forward again."
    )
