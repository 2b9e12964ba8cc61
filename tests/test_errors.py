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


class Own:
    """Somebody else's class."""

    def work(self):
        raise KeyError("one\ntwo")


def blamed_error() -> KeyError:
    try:
        Own().work()
    except KeyError as error:
        errors.blame(error, Own, "work")
        return error
    raise AssertionError("work raises")


def test_other_peoples_exceptions_get_a_note_of_what_one_of_ours_would_say():
    error = blamed_error()
    line = Own.work.__code__.co_firstlineno + 1
    said = f"tests.test_errors.Own: work raised KeyError: 'one\\ntwo'\n  At {__file__}:{line}."
    assert error.__notes__ == [said] and str(errors.blamed(error)) == said
    errors.blame(error, Own, "again")  # once is enough
    error.__notes__.insert(0, "a note of theirs")
    errors.locate(error, 'layer "a"')
    errors.locate(error, "net.prototxt:3:1")
    assert error.__notes__ == ["a note of theirs", f'net.prototxt:3:1: layer "a": {said}']
    assert str(errors.blamed(error)) == error.__notes__[1]


def test_places_of_other_exceptions():
    ours, bug = ConfigError("wrong"), ValueError("a mistake of ours")
    for error in (ours, bug):
        errors.locate(error, 'layer "a"')
    assert str(ours) == 'layer "a": wrong'
    assert bug.__notes__ == ['layer "a"'] and errors.blamed(bug) is None


def test_where_it_came_from():
    def inner():
        import numpy as np

        np.concatenate([])

    with pytest.raises(ValueError) as caught:
        inner()
    assert errors.origin(caught.value) == f"At {__file__}:{inner.__code__.co_firstlineno + 3}."
    with pytest.raises(SyntaxError) as caught:
        compile("x = = 1", "some.py", "exec")
    assert errors.origin(caught.value) == "At some.py:1."
    assert errors.origin(ValueError()) == ""
    assert errors.described(ValueError()) == "ValueError" and errors.described(ValueError("x")) == "ValueError: x"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("InnerProdcut", "InnerProduct"), ("innerproduct", "InnerProduct"), ("relu", "ReLU"), ("Foo", ""), ("", "")],
)
def test_the_nearest_name(name, expected):
    assert nearest(name, ["InnerProduct", "ReLU", "Pooling"]) == expected
    assert did_you_mean(name, ["InnerProduct", "ReLU"]) == (f'Did you mean "{expected}"?' if expected else "")
