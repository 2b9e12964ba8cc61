"""caffe.Layer: layers in Python, in a module that says `import caffe`."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location

import numpy as np
import pytest

import caffepy
from caffepy.engine import get_engine
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
from caffepy.proto.text import parse
from caffepy.pycaffe import alias
from tests.pycaffe.test_net import Far
from tests.support import ENGINES, assert_close

SOURCE = '''
import caffe
import caffe as same
from caffe import TRAIN, Layer
from caffe.proto import caffe_pb2
import caffe.proto.caffe_pb2 as again
import json
import numpy as np

MODULES = [caffe, same, caffe_pb2, again]

class Scale(caffe.Layer):
    """y = s x + 1 with a trained s, while training; else y = s x"""
    def setup(self, bottom, top):
        self.start = json.loads(self.param_str)["start"]
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = self.start
        self.train = self.phase == TRAIN
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        assert isinstance(bottom[0].data, np.ndarray) and bottom[0].num == len(bottom[0].data)
        top[0].data[...] = self.blobs[0].data * bottom[0].data + self.train
    def backward(self, top, propagate_down, bottom):
        self.asked = list(propagate_down)
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum()
        if propagate_down[0]:
            bottom[0].diff[...] = self.blobs[0].data * top[0].diff

class Loss(Layer):
    """Half the mean of squares, as pycaffe's example of a loss layer."""
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")
    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)
    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.
    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            sign = 1 if i == 0 else -1
            bottom[i].diff[...] = sign * self.diff / bottom[i].num
'''

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 2 dim: 2 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 3 dim: 2 dim: 2 dim: 2 } } }
layer { name: "scale" type: "Python" bottom: "x" top: "y"
  python_param { module: "pycaffe_layers" layer: "Scale" param_str: "{\\"start\\": 2}" } }
layer { name: "loss" type: "Python" bottom: "y" bottom: "t" top: "loss" loss_weight: 1
  python_param { module: "pycaffe_layers" layer: "Loss" } }
"""

ALL = [*ENGINES, "far"]


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "pycaffe_layers.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    forget_caffe()
    yield tmp_path / "pycaffe_layers.py"
    forget_caffe()
    for name in ("pycaffe_layers", "late", "asks"):
        sys.modules.pop(name, None)


def forget_caffe():
    """As if no Python layer had been loaded."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, (alias._Alias, Elsewhere))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "caffe"]:
        del sys.modules[name]


def engine_of(name):
    return Far() if name == "far" else get_engine(name)


def build(text=NET, phase=caffepy.TRAIN, engine="numpy"):
    return caffepy.Net(parse(text, NetParameter()), phase, engine=engine_of(engine))


def test_the_module_that_pycaffe_has_its_classes_from():
    alias.caffe_is_caffepy()
    from caffe.pycaffe import Net, SGDSolver

    assert (Net, SGDSolver) == (caffepy.Net, caffepy.SGDSolver)


@pytest.mark.parametrize("engine", ALL)
def test_the_protocol(engine):
    net = build("force_backward: true" + NET, engine=engine)
    x = np.random.default_rng(0).normal(size=(3, 2, 2, 2)).astype("f4")
    out = net.forward(x=x, t=np.zeros_like(x))
    assert_close(out["loss"], [((2 * x + 1) ** 2).sum() / 6])
    assert_close(net.blobs["y"].data, 2 * x + 1)
    gradients = net.backward()
    assert_close(gradients["x"], 2 * (2 * x + 1) / 3)
    assert_close(gradients["t"], -(2 * x + 1) / 3)
    assert_close(net.params["scale"][0].diff, [((2 * x + 1) * x).sum() / 3])
    assert net.layer_dict["scale"].start == 2  # what the user's object has
    test = build(phase=caffepy.TEST, engine=engine)
    assert_close(test.forward(x=x, t=2 * x)["loss"], [0])


@pytest.mark.parametrize("engine", ALL)
def test_propagate_down_says_which_gradients_are_wanted(engine):
    net = build(engine=engine)
    net.forward()
    net.backward()
    assert net.layer_dict["scale"].asked == [False]
    net = build("force_backward: true" + NET, engine=engine)
    net.forward()
    net.backward()
    assert net.layer_dict["scale"].asked == [True]


@pytest.mark.parametrize("engine", ALL)
def test_parameters_are_trained_and_saved(engine, tmp_path):
    param = SolverParameter(base_lr=0.1, lr_policy="fixed", net_param=parse(NET, NetParameter()))
    solver = caffepy.get_solver(param, engine=engine_of(engine))
    x = np.random.default_rng(0).normal(size=(3, 2, 2, 2)).astype("f4")
    s = 2.0
    for _ in range(3):
        solver.net.blobs["x"].data[...], solver.net.blobs["t"].data[...] = x, 5 * x
        solver.step(1)
        s -= 0.1 * ((s * x + 1 - 5 * x) * x).sum() / 3
    assert_close(solver.net.params["scale"][0].data, [s])
    solver.net.save(tmp_path / "w.caffemodel")
    net = caffepy.Net(parse(NET, NetParameter()), caffepy.TEST, weights=tmp_path / "w.caffemodel")
    assert_close(net.params["scale"][0].data, [s])


def test_import_caffe_is_caffepy_once_there_is_a_python_layer():
    with pytest.raises(ModuleNotFoundError):
        import caffe
    build()
    build()
    import caffe

    import caffepy.proto.caffe_pb2 as messages

    assert caffe is caffepy
    assert [caffepy, caffepy, messages, messages] == sys.modules["pycaffe_layers"].MODULES
    assert caffepy.__spec__.name == "caffepy" and messages.__spec__.name == "caffepy.proto.caffe_pb2"
    assert sum(isinstance(finder, alias._Alias) for finder in sys.meta_path) == 1


@pytest.mark.parametrize("method", ["__init__", "setup", "reshape", "forward", "backward"])
def test_a_layer_may_import_caffe_in_any_method(tmp_path, method):
    methods = "\n".join(f"  def {name}(self, *a): pass" for name in ("setup", "reshape", "forward", "backward"))
    (tmp_path / "late.py").write_text(
        f"from caffepy import Layer\nclass L(Layer):\n{methods}\n"
        f"  def {method}(self, *a):\n    import caffe.io\n    L.io = caffe.io\n"
    )
    net = build('layer { name: "l" type: "Python" top: "l" python_param { module: "late" layer: "L" } }')
    net.forward()
    net.layers[0].backward(net.nodes[0].top, [], [])
    assert sys.modules["late"].L.io is caffepy.io


class Elsewhere(MetaPathFinder):
    """Finds a Caffe where no folder of the path has one, as an editable installation does."""

    def __init__(self, path):
        self.path = path

    def find_spec(self, name, path, target=None):
        return spec_from_file_location(name, self.path) if name == "caffe" else None


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_real_caffe_stays_what_it_is(tmp_path, elsewhere):
    place = tmp_path / "elsewhere" if elsewhere else tmp_path
    place.mkdir(exist_ok=True)
    (place / "caffe.py").write_text("from caffepy import Layer\nREAL = True\n")
    if elsewhere:
        sys.meta_path.append(Elsewhere(place / "caffe.py"))
    (tmp_path / "asks.py").write_text(
        "import caffe\nREAL = caffe.REAL\nclass L(caffe.Layer):\n  def reshape(*a): pass\n"
    )
    build('layer { name: "l" type: "Python" python_param { module: "asks" layer: "L" } }')
    assert sys.modules["asks"].REAL
    with pytest.raises(ModuleNotFoundError):
        import caffe.io  # noqa: F401


def test_a_folder_called_caffe_is_no_caffe(tmp_path):
    (tmp_path / "caffe").mkdir()
    build()


def line(text: str) -> int:
    return next(i for i, found in enumerate(SOURCE.splitlines(), 1) if text in found)


def test_exceptions_come_as_they_are_and_name_the_layer_and_the_users_line(module):
    wrong = NET.replace('dim: 3 dim: 2 dim: 2 dim: 2 } } }\nlayer { name: "scale', 'dim: 3 } } }\nlayer { name: "scale')
    with pytest.raises(Exception) as caught:
        build(wrong)
    assert type(caught.value) is Exception and str(caught.value) == "Inputs must have the same dimension."
    assert caught.value.__notes__ == [
        'layer "loss": pycaffe_layers.Loss: reshape raised Exception: Inputs must have the same dimension.\n'
        f"  At {module}:{line('the same dimension')}."
    ]
    net = build()
    net.layers[2].user.train = None
    with pytest.raises(TypeError) as caught:
        net.forward()
    (note,) = caught.value.__notes__
    assert note.startswith('layer "scale": pycaffe_layers.Scale: forward raised TypeError: unsupported')
    assert note.endswith(f"\n  At {module}:{line('self.blobs[0].data * bottom[0].data + ')}.")
    net.layers[2].user.train = 0
    net.forward()
    del net.layers[3].user.diff
    with pytest.raises(AttributeError) as caught:
        net.backward()
    assert caught.value.__notes__ == [
        "layer \"loss\": pycaffe_layers.Loss: backward raised AttributeError: 'Loss' object has no attribute 'diff'\n"
        f"  At {module}:{line('sign * self.diff')}."
    ]
