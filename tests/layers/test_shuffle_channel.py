"""ShuffleChannel."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("group", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (5, 6), (2, 12, 3), (0, 6, 2, 2)])
def test_values(shape, group, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    source = [k % group * (shape[1] // group) + k // group for k in range(shape[1])]
    built = Built(f'type: "ShuffleChannel" shuffle_channel_param {{ group: {group} }}', x, engine=engine)
    assert_close(built.forward()[0], x[:, source], 0)
    assert_close(built.backward(dy)[0], dy[:, np.argsort(source)], 0)


@pytest.mark.parametrize(
    "fields, shape, error, message",
    [
        ("group: 4", (2, 6, 2), ConfigError, 'group 4 must divide the 6 channels of "x"'),
        ("group: 0", (2, 6, 2), ConfigError, 'group 0 must divide the 6 channels of "x"'),
        ("", (6,), ShapeError, 'ShuffleChannel needs at least two axes (N, C), "x" is (6,)'),
    ],
)
def test_refused(fields, shape, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Built(f'type: "ShuffleChannel" bottom: "x" shuffle_channel_param {{ {fields} }}', np.ones(shape))


def test_in_place():
    built = Built('type: "ShuffleChannel"', np.ones((2, 4)))
    with pytest.raises(ConfigError, match=r"^ShuffleChannel cannot run in place\n"):
        built.layer.reshape(built.bottom, built.bottom)
