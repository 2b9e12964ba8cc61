"""Reading step by step: the scores of the whole sequence, at the cost of one step each."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import TEST, Net
from caffepy.errors import ConfigError, ShapeError
from caffepy.generate.stepper import Stepper
from tests.generate import small
from tests.support import assert_close

TOKENS = np.random.default_rng(1).integers(small.SIZE, size=(12, 3))


def whole(net, tokens):
    """The scores behind the last token, read in one pass from the start."""
    net.blobs["data"].reshape(*tokens.shape)
    net.blobs["cont"].reshape(*tokens.shape)
    cont = np.ones(tokens.shape)
    cont[0] = 0
    return np.array(net.forward(data=tokens, cont=cont)["score"][-1])


def read(net, tokens, *parts):
    """The scores behind the last of tokens that are read in parts of these lengths."""
    found = []
    with Stepper(net).begun(len(tokens)) as stepper:
        for part in np.split(tokens, np.cumsum(parts)):
            found.append(np.array(stepper.read(part)))
    return found


@pytest.mark.parametrize("kind", small.BODIES)
def test_parts_come_to_the_same_as_the_whole(kind):
    net = small.net(kind)
    found = read(net, TOKENS, 7, 1, 1, 2)
    for end, scores in zip((7, 8, 9, 11, 12), found):
        assert_close(scores, whole(net, TOKENS[:end]))


@pytest.mark.parametrize("kind", small.BODIES)
def test_one_step_costs_one_step(kind):
    net = small.net(kind)
    with Stepper(net).begun(100) as stepper:
        stepper.read(TOKENS)
        for _ in range(3):
            stepper.read(TOKENS[:1])
            assert all(blob.shape[0] == 1 for blob in net.blobs.values())


@pytest.mark.parametrize("kind", small.BODIES)
def test_sequences_go_on_from_others(kind):
    net = small.net(kind)
    with Stepper(net).begun(12) as stepper:
        stepper.read(TOKENS[:8])
        stepper.choose(np.array([2, 2, 0]))
        scores = np.array(stepper.read(TOKENS[8:]))
    assert_close(scores, whole(net, np.concatenate([TOKENS[:8, [2, 2, 0]], TOKENS[8:]])))


@pytest.mark.parametrize("kind", small.BODIES)
def test_behind_the_block_passes_begin_anew(kind):
    net = small.net(kind)
    before = whole(net, TOKENS)
    read(net, TOKENS[::-1], 4)
    assert_close(whole(net, TOKENS), before)


def test_probabilities_become_scores():
    (scores,) = read(small.net("GRU"), TOKENS)
    (logs,) = read(small.net("GRU", small.SOFTMAX), TOKENS)
    assert_close(logs, scores - np.log(np.exp(scores).sum(1, keepdims=True)))


def test_a_table_of_places_that_is_full_reads_its_second_half_again():
    net = small.net("LEARNED", longest=6)
    scores = read(net, TOKENS, 6, *[1] * 5)
    assert_close(scores[0], whole(net, TOKENS[:6]))
    assert_close(scores[1], whole(net, TOKENS[4:7]))  # 3 of 6, the new one among them
    assert_close(scores[4], whole(net, TOKENS[4:10]))
    assert_close(scores[5], whole(net, TOKENS[8:11]))


def test_other_inputs_are_there_for_every_sequence():
    net = small.definition("LSTM")
    extra = small.text.parse(
        'layer { name: "seen" type: "Input" top: "seen" input_param { shape { dim: 1 dim: 4 } } }', type(net)()
    )
    net.layer.insert(2, extra.layer[0])
    next(layer for layer in net.layer if layer.name == "rnn").bottom.append("seen")
    built = Net(net, TEST)
    built.blobs["seen"].data[...] = [[1, -2, 3, 4]]
    with Stepper(built).begun(12) as stepper:
        side_by_side = np.array(stepper.read(TOKENS))
    for i in (2, 1, 0):
        with Stepper(built).begun(12) as stepper:
            assert_close(np.array(stepper.read(TOKENS[:, i : i + 1]))[0], side_by_side[i])
    assert built.blobs["seen"].data.tolist() == [[1, -2, 3, 4]]
    built.blobs["seen"].data[...] = 0
    with Stepper(built).begun(12) as stepper:
        assert not np.allclose(np.array(stepper.read(TOKENS[:, :1]))[0], side_by_side[0])


def test_nets_that_cannot():
    with pytest.raises(ShapeError) as caught:
        Stepper(small.net("GRU", 'layer { name: "flat" type: "Flatten" bottom: "score" top: "flat" }'))
    assert str(caught.value).startswith('the output "flat" is (1, 7) for tokens (1, 1)\n')
    net = small.definition("GRU")
    next(layer for layer in net.layer if layer.name == "rnn").recurrent_param.direction = 2
    next(layer for layer in net.layer if layer.name == "score").inner_product_param.num_output = 7
    with pytest.raises(ConfigError, match='layer "rnn" also reads from the end'):
        Stepper(Net(net, TEST))
    states = small.definition("GRU")
    rnn = next(layer for layer in states.layer if layer.name == "rnn")
    rnn.recurrent_param.expose_hidden = True
    rnn.bottom.append("before")
    rnn.top.append("after")
    before = 'layer { name: "before" type: "Input" top: "before" input_param { shape { dim: 1 dim: 1 dim: 8 } } }'
    states.layer.insert(2, small.text.parse(before, type(states)()).layer[0])
    with pytest.raises(ConfigError, match='layer "rnn" is given its states, so that it keeps none'):
        Stepper(Net(states, TEST))
