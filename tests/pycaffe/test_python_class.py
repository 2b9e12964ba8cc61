"""The Python layer: pycaffe's protocol, and errors that lead to the user's line."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import TEST, TRAIN
from caffepy.pycaffe.python_layer import PythonLayer
from tests.support import Built, assert_close

SOURCE = '''
import numpy as np
from caffepy.pycaffe.python_layer import PythonLayer

class Affine(PythonLayer):
    """y = w x + b c"""
    def setup(self, bottom, top):
        if len(bottom) != 1:
            raise Exception("Need one input")
        self.c = float(self.param_str)
        self.seen = [self.phase]
        self.blobs.add_blob(1)
        self.blobs.add_blob(2, 1)
        self.blobs[0].data[0] = 3
        self.blobs[1].data[...] = 4

    def reshape(self, bottom, top):
        self.seen.append("reshape")
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        self.seen.append("forward")
        top[0].data[...] = self.blobs[0].data * bottom[0].data + self.c * self.blobs[1].data[0, 0]

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += np.sum(top[0].diff * bottom[0].data)
        if propagate_down[0]:
            bottom[0].diff[...] = self.blobs[0].data * top[0].diff

class Source(PythonLayer):
    """Items of growing size, chosen in reshape."""
    def reshape(self, bottom, top):
        top[0].reshape(1, getattr(self, "n", 1))
    def forward(self, bottom, top):
        assert top[0].num == 1 and top[0].channels == self.__dict__.get("n", 1)
        top[0].data[...] = 1
        self.n = top[0].shape[1] + 1

class Broken(PythonLayer):
    def reshape(self, bottom, top):
        top[0].reshape(2)
    def forward(self, bottom, top):
        self.helper()
    def helper(self):
        return np.zeros(3).reshape(2)

class Empty(PythonLayer):
    pass

class Unrelated:
    pass
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (tmp_path / "my_layers.py").write_text(SOURCE)
    yield "my_layers"
    sys.modules.pop("my_layers", None)


def build(layer, *bottoms, module="my_layers", extra="", **options):
    text = f'type: "Python" python_param {{ module: "{module}" layer: "{layer}" {extra} }}'
    return Built(text, *bottoms, **options)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_protocol(module, phase):
    x = np.arange(6).reshape(2, 3).astype("f4")
    built = build("Affine", x, extra='param_str: "0.5" share_in_parallel: true', phase=phase)
    assert [blob.shape for blob in built.layer.blobs] == [(1,), (2, 1)]
    assert built.layer.param_propagate_down == [True, True]
    (y,) = built.forward()
    assert_close(y, 3 * x + 2)
    assert_close(built.backward(np.ones_like(x))[0], np.full_like(x, 3))
    assert built.layer.blobs[0].diff[0] == x.sum()
    assert built.layer.c == 0.5  # the user's attribute
    assert isinstance(built.layer.user, PythonLayer)
    # Caffe reshapes before each pass, also the first.
    built.layer.forward(built.bottom, built.top)
    assert built.layer.seen == [phase, "reshape", "reshape", "forward", "reshape", "forward"]


def test_layers_that_read_data_choose_their_shape(module):
    built = build("Source")
    for n in (1, 2, 3):
        built.layer.forward([], built.top)
        assert built.top[0].shape == (1, n)


def refused(message, *args, **options):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$") as caught:
        build(*args, **options)
    return caught.value


def raised(kind, note, method, *args, **options):
    """The exception of the user's code that a call lets through, with its note."""
    with pytest.raises(kind) as caught:
        method(*args, **options)
    assert type(caught.value) is kind and caught.value.__notes__ == [note]
    return caught.value


def test_exceptions_of_the_users_code_come_as_they_are(module, tmp_path):
    file = tmp_path / "my_layers.py"
    line = SOURCE.splitlines().index('            raise Exception("Need one input")') + 1
    note = f"my_layers.Affine: setup raised Exception: Need one input\n  At {file}:{line}."
    assert str(raised(Exception, note, build, "Affine", [1], [2])) == "Need one input"
    built = build("Broken")
    line = SOURCE.splitlines().index("        return np.zeros(3).reshape(2)") + 1
    text = "cannot reshape array of size 3 into shape (2,)"
    note = f"my_layers.Broken: forward raised ValueError: {text}\n  At {file}:{line}."
    assert str(raised(ValueError, note, built.forward)) == text
    note = (
        "my_layers.Broken: backward raised NotImplementedError: "
        "the class defines no backward(self, top, propagate_down, bottom)"
    )
    raised(NotImplementedError, note, built.layer.backward, built.top, [True], [])
    built.layer.backward(built.top, [False], [])
    note = "my_layers.Empty: reshape raised NotImplementedError: the class defines no reshape(self, bottom, top)"
    raised(NotImplementedError, note, build, "Empty")


def test_names_that_do_not_exist(module, tmp_path):
    file = tmp_path / "my_layers.py"
    refused(
        f'no module "my_layer" on the Python path or in {tmp_path}\n  Did you mean "my_layers"?',
        "Affine",
        module="my_layer",
    )
    refused(
        f'no module "zzqq.yy" on the Python path or in {tmp_path}\n  Set PYTHONPATH to the folder that holds it.',
        "Affine",
        module="zzqq.yy",
    )
    message = f'the module "my_layers" ({file}) has no class "{{}}"\n  {{}}'
    refused(message.format("affine", 'Did you mean "Affine"?'), "affine")
    known = "It has Affine, Broken, Empty, PythonLayer, Source."
    refused(message.format("Qqqqqqqqqq", known), "Qqqqqqqqqq")
    refused("my_layers.Unrelated is not a layer\n  Write: class Unrelated(caffepy.Layer)", "Unrelated")
    refused("python_param.module is not set", "Affine", module="")
    refused("python_param.layer is not set", "")


@pytest.mark.parametrize(
    "source, message",
    [
        ("import numpi", "ModuleNotFoundError: No module named 'numpi'\n  "),
        ("\n1 / 0", "ZeroDivisionError: division by zero\n  "),
        ("def", "SyntaxError: invalid syntax (bad_layers.py, line 1)\n  "),
    ],
)
def test_modules_that_cannot_be_imported(source, message, module, tmp_path):
    file = tmp_path / "bad_layers.py"
    file.write_text(source)
    at = f"At {file}:{source.count(chr(10)) + 1}."
    refused(f'the module "bad_layers" cannot be imported: {message}{at}', "Any", module="bad_layers")


def test_near_names_in_a_package(module, tmp_path):
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("")
    (tmp_path / "some_package" / "losses.py").write_text("")
    refused(
        f'no module "some_package.loses" on the Python path or in {tmp_path}\n  Did you mean "some_package.losses"?',
        "Any",
        module="some_package.loses",
    )
