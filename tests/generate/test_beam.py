"""Beam search: with beams enough it finds the best of all sequences, tried one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.generate import beam
from caffepy.generate.stepper import Stepper
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TEST
from tests.generate import small
from tests.support import ENGINES

PROMPT = np.array([3, 1])
LENGTH = 3


def log_probabilities(net, end):
    """Of every sequence of LENGTH tokens behind the prompt, cut at `end`."""
    found = {}
    for tokens in product(range(1, small.SIZE), repeat=LENGTH):
        cut = tokens[: tokens.index(end) + 1] if end in tokens else tokens
        if cut in found:
            continue
        read = np.array([*PROMPT, *cut])[:, None]
        net.blobs["data"].reshape(*read.shape)
        net.blobs["cont"].reshape(*read.shape)
        scores = net.forward(data=read, cont=(np.arange(len(read)) > 0)[:, None])["score"][:, 0, :].astype(float)
        scores = scores[:, 1:]  # token 0 is not chosen
        scores -= np.log(np.exp(scores).sum(1, keepdims=True))
        found[cut] = sum(scores[len(PROMPT) - 1 + i, token - 1] for i, token in enumerate(cut))
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["LSTM", "ROTARY"])
@pytest.mark.parametrize("end", [-1, 2])
def test_the_best_of_all(kind, end, engine):
    known = log_probabilities(small.net(kind), end)
    best = max(known, key=known.get)
    from caffepy import set_random_seed

    set_random_seed(1)
    net = Net(small.definition(kind), TEST, engine=get_engine(engine))
    with Stepper(net).begun(9) as stepper:
        found = beam.search(stepper, PROMPT, LENGTH, beam=40, hidden=1, end=end)
    assert tuple(found) == tuple(token for token in best if token != end)


@pytest.mark.parametrize("kind", small.BODIES)
def test_one_beam_takes_the_best_token_of_every_step(kind):
    net = small.net(kind)
    with Stepper(net).begun(20) as stepper:
        found = beam.search(stepper, PROMPT, 6, beam=1, hidden=0)
    with Stepper(net).begun(20) as stepper:
        scores = stepper.read(PROMPT[:, None])
        for token in found:
            assert token == np.argmax(scores[0])
            scores = stepper.read(np.array([[token]]))
