"""The engines' `scatter`: assignment by index, in which the last of several values for one place stays."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.engine import get_engine
from tests.support import ENGINES


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("count, places", [(0, 5), (4, 5), (1000, 7), (3000, 3000)])
def test_the_last_value_stays(count, places, name):
    engine, random = get_engine(name), np.random.default_rng(1)
    index, values = random.integers(0, places, count), random.standard_normal(count).astype("f4")
    table = engine.asarray(np.full(places, 9, "f4"))
    engine.scatter(table, engine.xp.asarray(index), engine.asarray(values))
    expected = np.full(places, 9, "f4")
    for place, value in zip(index, values):
        expected[place] = value
    np.testing.assert_array_equal(engine.to_host(table), expected)
