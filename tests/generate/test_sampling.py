"""Drawing tokens: frequencies are the probabilities that temperature, top_k and top_p leave."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError
from caffepy.generate.sampling import Sampling

P = np.array([0.1, 0.4, 0.2, 0.3])


def frequencies(sampling, count=4000):
    random = np.random.default_rng(0)
    drawn = [sampling.draw(np.log(P) + 5, random) for _ in range(count)]
    return np.bincount(drawn, minlength=4) / count


@pytest.mark.parametrize(
    "sampling, expected",
    [
        (Sampling(), P),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(temperature=0.5), P**2 / (P**2).sum()),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=9), P),
        (Sampling(top_p=0.65), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(top_p=0.01), [0, 1, 0, 0]),
        (Sampling(top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_frequencies(sampling, expected):
    assert np.abs(frequencies(sampling) - expected).max() < 0.03
    assert (frequencies(sampling, 50)[np.asarray(expected) == 0] == 0).all()


def test_tokens_that_are_barred_are_never_drawn():
    random = np.random.default_rng(0)
    scores = np.array([-np.inf, 0.0, 0.0])
    assert {Sampling().draw(scores, random) for _ in range(200)} == {1, 2}


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("temperature", -1, "temperature must be at least 0, got -1"),
        ("temperature", float("nan"), "temperature must be at least 0, got nan"),
        ("top_k", -2, "top_k must be at least 0, got -2"),
        ("top_p", 0, "top_p must lie above 0 and not above 1, got 0"),
        ("top_p", 1.5, "top_p must lie above 0 and not above 1, got 1.5"),
    ],
)
def test_refused(field, value, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**{field: value})
