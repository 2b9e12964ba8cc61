"""What errors say."""

from __future__ import annotations

import pytest

from caffepy import errors
from caffepy.errors import CaffeError, ConfigError, DataError, MissingExtraError, ShapeError, did_you_mean, nearest


@pytest.mark.parametrize(
    ("where", "hint", "expected"),
    [
        ("", "", "wrong"),
        ("a.prototxt:3:1", "", "a.prototxt:3:1: wrong"),
        ("", "Do this.", "wrong\n  Do this."),
        ("a.prototxt:3:1", "Do this.", "a.prototxt:3:1: wrong\n  Do this."),
    ],
)
def test_place_message_remedy(where, hint, expected):
    assert str(ConfigError("wrong", where=where, hint=hint)) == expected


def test_callers_further_out_prefix_the_place():
    error = DataError("wrong", where="db")
    assert error.at('layer "data"').at("a.prototxt:3:1") is error
    assert str(error) == 'a.prototxt:3:1: layer "data": db: wrong'


def test_a_missing_extra_says_how_to_install_it():
    assert str(MissingExtraError("plyvel", "leveldb", "reading a LevelDB")) == (
        "reading a LevelDB needs the package plyvel, which is not installed\n"
        '  Install it with: pip install "caffepy[leveldb]"'
    )


def test_one_family():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    assert all(issubclass(kind, CaffeError) for kind in kinds)
    assert issubclass(ShapeError, ConfigError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("InnerProdcut", "InnerProduct"), ("innerproduct", "InnerProduct"), ("relu", "ReLU"), ("Foo", ""), ("", "")],
)
def test_the_nearest_name(name, expected):
    assert nearest(name, ["InnerProduct", "ReLU", "Pooling"]) == expected
    assert did_you_mean(name, ["InnerProduct", "ReLU"]) == (f'Did you mean "{expected}"?' if expected else "")
