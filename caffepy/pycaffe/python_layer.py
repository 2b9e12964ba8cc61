"""Python: a layer written by the user, found by module and class name."""

from __future__ import annotations

import inspect
from typing import Any

from caffepy import permissions, plugins
from caffepy.engine import Engine, default_engine
from caffepy.errors import CaffeError, ConfigError, blame, did_you_mean
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto import caffe_pb2
from caffepy.pycaffe.alias import caffe_is_caffepy
from caffepy.pycaffe.host import for_scripts, take_back


class ParameterBlobs(list[Blob]):
    """A layer's parameters; `add_blob(2, 3)` appends one of shape (2, 3), filled with zeros."""

    def __init__(self, engine: Engine | None = None):
        super().__init__()
        self._engine = engine or default_engine()
        self.engine_blobs: list[Blob] = []
        """The same, as the net and the solver see them."""

    def add_blob(self, *shape: int) -> Blob:
        self.engine_blobs.append(Blob(tuple(int(n) for n in shape), self._engine))
        self += for_scripts(self.engine_blobs[-1:], self._engine)
        return self[-1]


class PythonLayer:
    """Base of the user's layers, `caffepy.Layer`; the protocol is pycaffe's.

        class Doubled(caffepy.Layer):
            def reshape(self, bottom, top):
                top[0].reshape(*bottom[0].shape)

            def forward(self, bottom, top):
                top[0].data[...] = 2 * bottom[0].data

            def backward(self, top, propagate_down, bottom):
                bottom[0].diff[...] = 2 * top[0].diff

    `bottom` and `top` are lists of Blob, whose `data` and `diff` are written in place. The constructor gets
    the layer's definition; `setup`, `reshape`, `forward` and `backward` are for the user to define. A layer that
    remembers something between passes also defines `state()`, a dict of it, and `set_state(state)`: then a run that is
    resumed goes on with the same bits.
    """

    type = "Python"

    param_str: str = ""
    """`python_param.param_str`, set before `setup`."""
    phase: int = caffe_pb2.TRAIN
    """caffepy.TRAIN or caffepy.TEST, set before `setup`."""

    def __init__(self, param: caffe_pb2.LayerParameter | None = None):
        self.blobs = ParameterBlobs()
        """Parameters: `self.blobs.add_blob(2, 3)` in `setup`; `backward` adds to their `diff`."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Check the definition and add parameters. Called once."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Shape the tops: `top[0].reshape(*bottom[0].shape)`. Called before each `forward`."""
        raise NotImplementedError("the class defines no reshape(self, bottom, top)")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Write the tops' `data`."""
        raise NotImplementedError("the class defines no forward(self, bottom, top)")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Write the `diff` of the bottoms where `propagate_down`."""
        if any(propagate_down) or self.blobs:
            raise NotImplementedError("the class defines no backward(self, top, propagate_down, bottom)")


@register("Python")
class Python(Layer):
    """What the class `python_param.layer` of the module `python_param.module` computes.

    The module is looked for on the Python path and in the current folder; its `import caffe` gives caffepy, unless
    a real Caffe is installed. The class derives from
    `caffepy.Layer` and sees `python_param.param_str` as `self.param_str`; its attributes can be read from
    this layer, too. `share_in_parallel` means nothing here. Exceptions of the user's code reach the caller as they are,
    with a note that names layer, method and line.
    """

    recordable = False

    num_bottom = (0, None)
    num_top = (0, None)

    def __init__(self, param: caffe_pb2.LayerParameter, phase: int = caffe_pb2.TRAIN, engine: Engine | None = None):
        super().__init__(param, phase, engine)
        p = param.python_param
        self._class = find_class(p.module, p.layer)
        self._shaped = False
        self.user = self._call(self._class, param, name="the constructor")
        self.user.param_str = p.param_str
        self.user.phase = phase
        self.user.blobs = ParameterBlobs(self.engine)
        self.blobs = self.user.blobs.engine_blobs

    def __getattr__(self, name: str) -> Any:
        # pycaffe's scripts reach the user's object as net.layers[i].
        if name in ("user", "__setstate__"):
            raise AttributeError(name)
        return getattr(self.user, name)

    def set_up(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().set_up(bottom, top)
        self._shaped = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._call(self.user.setup, self._seen(bottom), self._seen(top))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._call(self.user.reshape, self._seen(bottom), self._seen(top))
        self._shaped = True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        # Caffe reshapes before each forward pass; layers that read data choose the next item there.
        if not self._shaped:
            self.reshape(bottom, top)
        self._shaped = False
        self._call(self.user.forward, self._seen(bottom), self._seen(top))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self._call(self.user.backward, self._seen(top), propagate_down, self._seen(bottom))

    def state(self) -> dict[str, Any]:
        return self.user.state() if self._keeps_state else {}

    def set_state(self, state: dict[str, Any]) -> None:
        if self._keeps_state:
            self.user.set_state(state)

    @property
    def _keeps_state(self) -> bool:
        """Whether the user's class has both methods: one of pycaffe's time may use either name for something else."""
        return all(callable(getattr(self._class, name, None)) for name in ("state", "set_state"))

    def _seen(self, blobs: list[Blob]) -> list[Blob]:
        return for_scripts(blobs, self.engine)

    def _call(self, method: Any, *args: Any, name: str = "") -> Any:
        try:
            result = method(*args)
            take_back()
            return result
        except CaffeError:
            raise
        except Exception as error:
            blame(error, self._class, name or method.__name__)
            raise


def find_class(module_name: str, class_name: str) -> type[PythonLayer]:
    """The user's class. Raises ConfigError with the nearest name where there is none."""
    if not permissions.python_layers():
        raise ConfigError(
            f"the layer runs Python code, {module_name}.{class_name}, which --no-python-layers refuses",
            hint="Without it, and CAFFEPY_NO_PYTHON_LAYERS, the code of nets that you trust runs.",
        )
    for field, value in (("module", module_name), ("layer", class_name)):
        if not value:
            raise ConfigError(f"python_param.{field} is not set")
    caffe_is_caffepy()
    module = plugins.load(module_name)
    classes = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    if class_name not in classes:
        known = [name for name, value in classes.items() if issubclass(value, PythonLayer)]
        file = getattr(module, "__file__", "built in")
        raise ConfigError(
            f'the module "{module_name}" ({file}) has no class "{class_name}"',
            hint=did_you_mean(class_name, known) or (f"It has {', '.join(sorted(known))}." if known else ""),
        )
    cls = classes[class_name]
    if not issubclass(cls, PythonLayer):
        raise ConfigError(
            f"{module_name}.{class_name} is not a layer", hint=f"Write: class {class_name}(caffepy.Layer)"
        )
    return cls
