"""Names that are not there: the nearest that is, or all."""

from __future__ import annotations

import pytest

from caffepy.errors import ConfigError
from caffepy.net.named import Named, listed


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (["conv1", "pool1"], 'the net has no blob "conv2"\n  Did you mean "conv1"?'),
        (["x", "y"], 'the net has no blob "conv2"\n  There are: x, y.'),
        ([], 'the net has no blob "conv2"\n  There is no blob at all.'),
        ([f"{i}" * 9 for i in range(21)], f"\n  There are: {', '.join(f'{i}' * 9 for i in range(20))}, ...."),
    ],
)
def test_an_unknown_name(known, said):
    for kind in (KeyError, ConfigError):  # scripts and the command line catch different ones
        with pytest.raises(kind) as caught:
            Named("blob", dict.fromkeys(known))["conv2"]
        assert str(caught.value).endswith(said)


def test_it_is_a_dictionary_otherwise():
    named = Named("layer", [("a", 1), ("b", 2)])
    assert named["b"] == 2 and list(named) == ["a", "b"] and named.get("c") is None and "c" not in named


@pytest.mark.parametrize(("given", "names"), [(None, []), ("a", ["a"]), (["a", "b"], ["a", "b"]), (3, [3])])
def test_one_several_or_none(given, names):
    assert listed(given) == names
