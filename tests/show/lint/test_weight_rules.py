"""Weights are compared with the nets that they are for."""

from __future__ import annotations

import pytest

from caffepy.net.net import Net
from tests.show.lint.conftest import FC, INPUT, LOSS

NET = INPUT + FC + LOSS


@pytest.fixture(params=["w.caffemodel", "w.caffemodel.h5"])
def weights(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def save(definition: str) -> list[str]:
        (tmp_path / "trained.prototxt").write_text(definition)
        net = Net("trained.prototxt")
        (net.save_hdf5 if request.param.endswith(".h5") else net.save)(request.param)
        (tmp_path / "trained.prototxt").unlink()
        return [request.param]

    return save


def test_weights_that_fit(found, weights):
    assert found(NET, weights=weights(NET)) == []


def test_weights_that_do_not_fit(found, weights):
    (line,) = found(NET, weights=weights(NET.replace("num_output: 3", "num_output: 4")))
    assert line.startswith('net.prototxt:2:1: error: layer "fc": parameter 0 has shape (3, 6) here and (4, 6) in w.')


def test_layers_that_the_weights_do_not_have(found, weights):
    other = FC.replace('"fc"', '"new"')
    quiet = 'layer { name: "q" type: "Silence" bottom: "new" }\n'
    lines = found("state { phase: TEST }\n" + NET + other + quiet, weights=weights(NET))
    assert any("warning: the weights have nothing for new: they stay as their fillers make them" in x for x in lines)
    lines = found(NET, weights=weights(NET + other + quiet))
    assert [line.split(": ")[1] for line in lines] == ["note"] and "the net has no layer for new" in lines[0]


def test_weights_of_another_net(found, weights):
    (line,) = found(NET, weights=weights(NET.replace('"fc"', '"other"')))
    assert (
        line
        == "net.prototxt: error: no layer with parameters has a name that the weights have [weights-of-another-net]"
    )


def test_a_file_of_weights_that_is_none(found, tmp_path):
    (tmp_path / "w").write_bytes(b"no weights")
    (line,) = found(NET, weights=["w"])
    assert (
        line == "w: error: this is no complete caffemodel: truncated, or another kind of file [weights-cannot-be-read]"
    )
