"""param_str: YAML and JSON, read as the annotations of a layer's class say."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pytest

import caffepy
from caffepy import layers as L
from caffepy.errors import ConfigError
from caffepy.net import layer as layers
from caffepy.net.layer import Layer
from caffepy.net.param_str import declared, read
from caffepy.proto.caffe_pb2 import LayerParameter


class Own(Layer):
    scale: float
    times: int = 1
    clip: bool = False
    name_of_it: str = "none"
    mode: Literal["mild", "wild", 3, None] = "mild"
    sizes: list[int] = []
    pair: tuple[int, float] = (0, 0.0)
    many: tuple[str, ...] = ()
    weights: dict[str, float] = {}
    limit: float | None = None
    table: dict[str, list[int]] = {}
    _inner: int = 0
    shared: ClassVar[int] = 0
    num_top = (1, 2)

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        top[0].data[...] = self.scale * bottom[0].data


class Derived(Own):
    scale: float = 2.0
    extra: int = 5


class Plain(Layer):
    pass


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    layers.layer_types()
    for cls in (Own, Derived, Plain):
        monkeypatch.setitem(layers._registry, cls.__name__, cls)
        monkeypatch.setattr(cls, "type", cls.__name__)


def test_what_a_class_declares():
    names = "scale times clip name_of_it mode sizes pair many weights limit table"
    assert list(declared(Own)) == names.split()
    assert list(declared(Derived)) == [*names.split(), "extra"]
    assert declared(Plain) == {}
    for in_tree in layers.layer_types():
        if layers.layer_class(in_tree).__module__.startswith("caffepy."):
            assert declared(layers.layer_class(in_tree)) == {}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("scale: 1", {"scale": 1.0}),
        ("scale: 1e-3 # a comment", {"scale": 1e-3}),
        ("{scale: .5, times: 2}", {"scale": 0.5, "times": 2}),
        ('{"scale":-.5,"times":2,"name_of_it":"x/\\u00e9"}', {"scale": -0.5, "times": 2, "name_of_it": "x/\u00e9"}),
        ('{\n\t"scale": 2,\n\t"clip": true\n}', {"scale": 2.0, "clip": True}),
        ("scale: .inf\nclip: No\nname_of_it: no", {"scale": float("inf"), "clip": False, "name_of_it": "no"}),
        ("scale: 1\nname_of_it: 1.50", {"scale": 1.0, "name_of_it": "1.50"}),
        ("scale: 1\nmode: wild", {"scale": 1.0, "mode": "wild"}),
        ("scale: 1\nmode: 3", {"scale": 1.0, "mode": 3}),
        ("scale: 1\nmode: null", {"scale": 1.0, "mode": None}),
        ("scale: 1\nsizes: [1, 2]", {"scale": 1.0, "sizes": [1, 2]}),
        ("scale: 1\nsizes:\n- 1\n- 2", {"scale": 1.0, "sizes": [1, 2]}),
        ("scale: 1\npair: [3, 4]", {"scale": 1.0, "pair": (3, 4.0)}),
        ("scale: 1\nmany: [a, b, '3']", {"scale": 1.0, "many": ("a", "b", "3")}),
        ("scale: 1\nweights:\n  a: 1\n  b: .5", {"scale": 1.0, "weights": {"a": 1.0, "b": 0.5}}),
        ("scale: 1\ntable: {a: [1], b: []}", {"scale": 1.0, "table": {"a": [1], "b": []}}),
        ("scale: 1\nlimit: ~", {"scale": 1.0, "limit": None}),
        ("scale: 1\nlimit: 3", {"scale": 1.0, "limit": 3.0}),
    ],
)
def test_values_have_the_declared_types(text, values):
    found = read(Own, text)
    assert found == values
    assert {name: type(value) for name, value in found.items()} == {name: type(v) for name, v in values.items()}


@pytest.mark.parametrize("text", ["", "  ", "# nothing\n"])
def test_defaults_stay(text):
    assert read(Derived, text) == {}
    assert read(Plain, text if not text.startswith("#") else "") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("times: 2", '"scale" is not set\n  It takes a number: param_str: "scale: ...".'),
        ("scale: 1\ntime: 2", 'param_str:2:1: Own has no parameter "time"\n  Did you mean "times"?'),
        ("scale: 1\nqqqq: 2", 'param_str:2:1: Own has no parameter "qqqq"\n  It has: scale, times, clip, name_of_it,'),
        ("scale: fast", 'param_str:1:8: "scale" takes a number, got fast'),
        ("scale: '1'", 'param_str:1:8: "scale" takes a number, got "1"\n  Write it without quotes.'),
        ("scale:", 'param_str:1:7: "scale" takes a number, got nothing'),
        ("scale: [1]", 'param_str:1:8: "scale" takes a number, got a list'),
        ("scale: 1\n\ntimes: 2.5", 'param_str:3:8: "times" takes a whole number, got 2.5'),
        ("scale: 1\nclip: 1", 'param_str:2:7: "clip" takes true or false, got 1'),
        ("scale: 1\nname_of_it: [1]", 'param_str:2:13: "name_of_it" takes text, got a list'),
        (
            "scale: 1\nmode: wold",
            'param_str:2:7: "mode" takes one of "mild", "wild", 3, null, got wold\n  Did you mean "wild"?',
        ),
        ("scale: 1\nmode: {a: 1}", '"mode" takes one of "mild", "wild", 3, null, got names and values'),
        ("scale: 1\nsizes: 3", 'param_str:2:8: "sizes" takes a list, each a whole number, got 3'),
        ("scale: 1\nsizes: [3, x]", 'param_str:2:12: "sizes" takes a whole number, got x'),
        ("scale: 1\npair: [3]", 'param_str:2:7: "pair" takes a list of 2, got a list'),
        ("scale: 1\nweights: 3", 'param_str:2:10: "weights" takes names and values, each a number, got 3'),
        ("scale: 1\nlimit: x", 'param_str:2:8: "limit" takes a number or null, got x'),
        ("scale: 1\nscale: 2", 'param_str:2:1: "scale" is given twice'),
        ("0.5", "param_str:1:1: names and values are expected\n  For example: scale: ..."),
        ("[1, 2]", "param_str:1:1: names and values are expected"),
        ("{scale: 1", "param_str:1:10: this is neither YAML nor JSON: expected ',' or '}', but got '<stream end>'"),
        ("scale: 1\n\tx", "this is neither YAML nor JSON: "),
        ("scale: \0", "this is neither YAML nor JSON: "),
        ("scale: &a [*a]", '"scale" takes a number, got a list'),
    ],
)
def test_mistakes_are_named_with_line_and_column(text, message):
    with pytest.raises(ConfigError) as caught:
        read(Own, text)
    assert message in str(caught.value)


def test_texts_for_classes_that_declare_nothing_or_the_impossible():
    with pytest.raises(ConfigError, match=r"^param_str is given, but Plain declares no parameters$"):
        read(Plain, "a: 1")

    class Odd(Layer):
        shape: bytes = b""

    with pytest.raises(ConfigError, match=r"^bytes is no type of a parameter\n  Types are bool, int"):
        read(Odd, "shape: x")

    class Unknown(Layer):
        x: Missing = 1  # noqa: F821

    with pytest.raises(
        ConfigError, match=r"Unknown cannot be read: NameError: name 'Missing' is not defined\n  Import"
    ):
        read(Unknown, "")

    class Taken(Layer):
        num_bottom: int = 2

    with pytest.raises(ConfigError, match=r'^Taken declares a parameter "num_bottom", a name that all layers use'):
        Taken(LayerParameter())


NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "own" type: "Own" bottom: "x" top: "y" param_str: "scale: 3\\n%s" }
"""


def test_in_a_net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET % "times: 2")
    net = caffepy.Net(path, caffepy.TEST)
    np.testing.assert_array_equal(net.forward(x=[1, 2])["y"], [3, 6])
    assert net.layer_dict["own"].times == 2 and net.layer_dict["own"].mode == "mild"
    path.write_text(NET % "tines: 2")
    with pytest.raises(ConfigError) as caught:
        caffepy.Net(path, caffepy.TEST)
    assert str(caught.value) == (
        f'{path}:3:1: layer "own": param_str:2:1: Own has no parameter "tines"\n  Did you mean "times"?'
    )


def test_keywords_of_net_spec_and_sequence():
    spec = caffepy.NetSpec()
    spec.x = L.Input(shape={"dim": [2]})
    spec.y = L.Own(spec.x, scale=np.float32(0.5), sizes=np.array([1, 2]), name="own")
    net = caffepy.Net(spec.to_proto(), caffepy.TEST)
    assert net.layer_dict["own"].scale == 0.5 and net.layer_dict["own"].sizes == [1, 2]
    assert caffepy.Sequence([L.Own(scale=3)], input=(2, 2)).net().layers[-1].scale == 3
    with pytest.raises(ConfigError, match=r'L\.Own: Own has no parameter "scales"\n  Did you mean "scale"'):
        L.Own(spec.x, scales=1)
    with pytest.raises(ConfigError, match="scale and param_str are given"):
        L.Own(spec.x, scale=1, param_str="scale: 1")
