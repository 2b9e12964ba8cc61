"""Net: a graph of layers that runs forward and backward, with pycaffe's methods."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from caffepy.engine import Engine
from caffepy.errors import CaffeError, ConfigError, ShapeError
from caffepy.files import check_writable
from caffepy.net import debug, weights
from caffepy.net.blob import Array, Blob, take_back
from caffepy.net.build import Graph
from caffepy.net.named import Named, listed, unknown
from caffepy.passes.divided import Parts, Stretch
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState
from caffepy.pycaffe import batched
from caffepy.pycaffe.host import for_scripts

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffepy.arrays.fit import FitOptions, History, SolverLike
    from caffepy.pycaffe.nccl import NCCL

log = logging.getLogger(__name__)


class Net(Graph):
    """A graph of layers built from a definition.

    `network_file` is the path of a prototxt or a NetParameter; `phase`, `level` and `stages` override and extend the
    definition's own `state`. `weights` names trained weights to load, several separated by commas. The older
    form `Net(network_file, weights, phase)` is understood, too.

        net = caffepy.Net("deploy.prototxt", caffepy.TEST, weights="trained.caffemodel")
        net.blobs["data"].data[...] = images  # (N, C, H, W)
        scores = net.forward()["prob"]

    Raises ConfigError and ShapeError with the file, line and layer at fault.
    """

    def __init__(
        self,
        network_file: str | PathLike[str] | NetParameter | text.Definition,
        phase: int | str | PathLike[str] | None = None,
        level: int | None = None,
        stages: Sequence[str] | None = (),
        weights: weights.Paths | None = None,
        *,
        engine: Engine | None = None,
        state: NetState | None = None,
    ):
        if isinstance(phase, (str, PathLike)):
            if phase in ("TRAIN", "TEST"):
                raise ConfigError(f"the phase is caffepy.TRAIN (0) or caffepy.TEST (1), got {phase!r}")
            phase, weights, level = level, phase, None  # type: ignore[assignment]
        if isinstance(level, (str, PathLike)):
            raise ConfigError(
                f"level is a number, got {level!r}", hint="Name the weights: Net(file, phase, weights=...)"
            )
        definition = text.definition(network_file)
        param = NetParameter()
        param.CopyFrom(definition.param)
        if state is not None:
            param.state.CopyFrom(state)
        if phase is not None:
            if phase not in (TRAIN, TEST):
                raise ConfigError(f"the phase is caffepy.TRAIN (0) or caffepy.TEST (1), got {phase!r}")
            param.state.phase = phase  # type: ignore[assignment]
        if level is not None:
            param.state.level = level
        param.state.stage.extend([stages] if isinstance(stages, str) else stages or ())
        self.hooks: dict[str, list[Callable[[int], Any]]] = defaultdict(list)
        """Functions of a layer index under "before_forward", "after_forward", "before_backward", "after_backward"."""
        self.inference: Net | None = None
        """A net of the TEST phase on the same weights, where `predict` or `evaluate` needed one."""
        super().__init__(definition._replace(param=param), engine)
        self._parts = Parts(self)
        if weights:
            self.copy_from(weights)

    # Running

    def forward_from_to(self, start: int = 0, end: int | None = None) -> Array:
        """Run layers `start` .. `end` (inclusive, default: the last); the weighted sum of losses they made."""
        return self.forward_layers(range(start, len(self.layers) if end is None else end + 1))

    def forward_layers(self, layers: Iterable[int]) -> Array:
        """Run these layers in this order; the weighted sum of losses they made."""
        take_back()
        loss: Any = 0.0
        todo = list(layers)
        while todo:
            run = self._forward_first(todo)
            for i in todo[:run]:
                if any(self.layers[i].loss_weights):
                    loss = loss + self._loss(i)
            del todo[:run]
        return loss

    def forward_layer(self, i: int) -> Array:
        """Run one layer, reshaping it first where a bottom's shape has changed; its part of the loss."""
        return self.forward_layers((i,))

    def _forward_first(self, layers: Sequence[int]) -> int:
        """Run the first of these layers, with others behind it where parts of the batch run them together: how many."""
        i, run = layers[0], 1
        self._call("before_forward", i)
        if not self.is_shaped(i):
            self._reshape(i)
        stretch = self._stretch(layers) if self._parts.may_divide(i) else None
        if stretch is None:
            self._parts.runs[i] = None
            self._placed(i, self.layers[i].forward, self.bottoms[i], self.tops[i])
        else:
            if not self._watched:
                run = next((n for n, j in enumerate(layers) if j not in stretch.layers), len(layers))
            self._parts.forward(stretch, layers[:run])
        if self.param.debug_info:
            debug.forward(self, i)
        self._call("after_forward", i)
        return run

    def _stretch(self, layers: Sequence[int]) -> Stretch | None:
        """What parts of the batch run from the first of these layers on, all shaped."""
        for i, wanted in zip(count(layers[0]), layers):
            if i != wanted or not self._parts.may_divide(i):
                break
            if not self.is_shaped(i):
                self._reshape(i)
        return self._parts.at(layers[0])

    @property
    def _watched(self) -> bool:
        """Whether somebody looks on after each layer, so that each must run on its own."""
        return self.param.debug_info or any(self.hooks.values())

    def _reshape(self, i: int) -> None:
        self._placed(i, self.layers[i].reshape, self.bottoms[i], self.tops[i])
        self.shapes[i] = tuple([blob.shape for blob in self.bottoms[i]])
        self._parts.reshaped(i)

    def _placed(self, i: int, method: Callable[..., None], *args: Any) -> None:
        """Call a method of layer i; what goes wrong says where."""
        try:
            method(*args)
        except CaffeError as error:
            error.at(self.places[i])
            raise

    def _loss(self, i: int) -> Array:
        """What layer i adds to the loss: sum(data * diff) of tops whose gradient holds their weight."""
        loss: Any = 0.0
        for blob, weight in zip(self.tops[i], self.layers[i].loss_weights):
            if weight:
                loss = loss + self.engine.xp.sum(blob.data * blob.diff)
        return loss

    def backward_from_to(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward passes of layers `start` (default: the last) down to `end`."""
        take_back()
        first = len(self.layers) - 1 if start is None else start
        todo = [i for i in range(first, end - 1, -1) if self.layer_need_backward[i]]
        while todo:
            del todo[: self._backward_first(todo)]
        if self.param.debug_info:
            debug.backward_total(self)

    def backward_layer(self, i: int) -> None:
        """Run one layer backward, whether its gradients are needed or not."""
        self._backward_first((i,))

    def _backward_first(self, layers: Sequence[int]) -> int:
        """Run the first of these layers backward, with others where parts of the batch run them: how many."""
        i, run = layers[0], 1
        self._call("before_backward", i)
        if self._parts.runs[i] is None:
            self._placed(i, self.layers[i].backward, self.tops[i], self.bottom_need_backward[i], self.bottoms[i])
        else:
            if not self._watched:
                run = self._parts.together(layers)
            self._parts.backward(layers[:run])
        if self.param.debug_info:
            debug.backward(self, i)
        self._call("after_backward", i)
        return run

    def forward_backward(self) -> Array:
        """One forward and one backward pass; the loss."""
        loss = self.forward_from_to()
        self.backward_from_to()
        return loss

    def settle(self) -> None:
        """Where the engine is lazy, raise what this net's layers have refused since the last call: labels, indices."""
        if self.engine.lazy:
            found = zip(self.places, [layer.put_off() for layer in self.layers])  # of all layers: once is enough
            for place, error in found:
                if error is not None:
                    raise error.at(place)

    def reshape(self) -> None:
        """Propagate the inputs' shapes to all layers. Forward does so by itself."""
        for i in range(len(self.layers)):
            self._reshape(i)

    # Running as pycaffe's scripts do

    def forward(
        self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **inputs: Any
    ) -> dict[str, np.ndarray]:
        """Fill the input blobs with `inputs`, if any, and run the layers from `start` to `end`, both included.

        Returns the values of the net's outputs (or of the tops of `end`) and of `blobs`, by name. They are views
        of the blobs: copy what must outlive the next pass.
        """
        first = self._layer_index(start, 0)
        last = self._layer_index(end, len(self.layers) - 1)
        names = [*(self.outputs if end is None else self.top_names[end]), *listed(blobs)]
        for name in names:
            _ = self.engine_blobs[name]
        if inputs:
            self._fill("data", inputs, self.inputs, "inputs")
        self.forward_from_to(first, last)
        self.settle()
        return {name: self.engine_blobs[name].host("data") for name in names}

    def backward(
        self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **gradients: Any
    ) -> dict[str, np.ndarray]:
        """Set the gradients of the outputs, if any are given, and run backward from layer `start` down to `end`.

        Returns the gradients of the net's inputs (or of the bottoms of `end`) and of the blobs `diffs`, by name,
        as views. Gradients of parameters are added to: see `clear_param_diffs`.
        """
        first = self._layer_index(start, len(self.layers) - 1)
        last = self._layer_index(end, 0)
        names = [*(self.inputs if end is None else self.bottom_names[end]), *listed(diffs)]
        for name in names:
            _ = self.engine_blobs[name]
        if gradients:
            self._fill("diff", gradients, self.outputs, "outputs")
        self.backward_from_to(first, last)
        return {name: self.engine_blobs[name].host("diff") for name in names}

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: Any) -> dict[str, np.ndarray]:
        """`forward` over inputs of any length, batch by batch; the outputs and `blobs` as new arrays."""
        return batched.forward_all(self, blobs, inputs)

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **arrays: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Forward and backward over inputs and output gradients of any length; values and gradients, as new arrays."""
        return batched.forward_backward_all(self, blobs, diffs, arrays)

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Let the net's first layer, a MemoryData, go through `data` (n, C, H, W) and `labels` (n)."""
        layer = self.layers[0]
        if layer.type != "MemoryData":
            raise ConfigError(
                f'set_input_arrays needs a MemoryData layer at the start, but "{layer.name}" is of type {layer.type}'
            )
        layer.reset(data, labels)  # type: ignore[attr-defined]

    def before_forward(self, function: Callable[[int], Any]) -> None:
        """Call `function(layer index)` before each layer's forward pass."""
        self._add_hook("before_forward", function)

    def after_forward(self, function: Callable[[int], Any]) -> None:
        self._add_hook("after_forward", function)

    def before_backward(self, function: Callable[[int], Any]) -> None:
        self._add_hook("before_backward", function)

    def after_backward(self, function: Callable[[int], Any] | NCCL) -> None:
        self._add_hook("after_backward", function)

    def _add_hook(self, when: str, function: Callable[[int], Any] | NCCL) -> None:
        if callable(function):
            self.hooks[when].append(function)
        else:
            function.join()

    def _layer_index(self, name: str | None, default: int) -> int:
        if name is None:
            return default
        if name not in self.layer_dict:
            raise unknown("layer", name, self.layer_dict)
        return self.layer_names.index(name)

    def _fill(self, which: str, arrays: Mapping[str, Any], names: Sequence[str], kind: str) -> None:
        """Copy `arrays` into the blobs `names`; all must be there and fit, before anything is changed."""
        if set(arrays) != set(names):
            raise ConfigError(
                f"the arguments {', '.join(sorted(arrays))} are not the net's {kind}",
                hint=f"Its {kind} are: {', '.join(names)}." if names else f"It has no {kind}.",
            )
        hosts = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
        for name, values in hosts.items():
            self._check_fits(name, values.shape)
        for name, values in hosts.items():
            self.engine_blobs[name].fill(values, which)

    def _check_fits(self, name: str, found: tuple[int, ...]) -> None:
        """As in pycaffe the number of items must agree; the rest may be broadcast."""
        wanted = self.engine_blobs[name].shape
        try:
            fits = found[:1] == wanted[:1] and np.broadcast_shapes(found, wanted) == wanted
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f'the array for "{name}" has shape {found}, the blob {wanted}',
                hint=f"For other shapes: net.blobs[{name!r}].reshape({', '.join(map(str, found))}) first.",
            )

    # Arrays of any length

    def predict(self, x: Any, batch_size: int | None = None, output: str | Sequence[str] | None = None) -> Any:
        """The values of the net's outputs, or of the blob(s) `output`, for every item of `x`, an array or a dict.

            probabilities = net.predict(images)  # (n, 10)
            features = net.predict(images, batch_size=64, output="fc7")  # (n, 4096)

        The layers compute as in the TEST phase; those that are not needed do not run. The net keeps its shape.
        """
        from caffepy.arrays.predict import predict

        return predict(self, x, batch_size, output)

    def evaluate(self, x: Any, y: Any = None, batch_size: int | None = None) -> dict[str, float]:
        """The mean loss, as "loss", and the mean of every single-valued output, by name.

            print(net.evaluate(test_images, test_labels)["accuracy"])

        `x` and `y` are as in `fit`. The layers compute as in the TEST phase, whatever the net's own.
        """
        from caffepy.arrays.fit import evaluate

        return evaluate(self, x, y, batch_size)

    def fit(self, x: Any, y: Any = None, *, solver: SolverLike | None = None, **options: Unpack[FitOptions]) -> History:
        """Train on arrays, with Adam or the `solver` of your choice: a prototxt, a message or a dict of its fields.

            history = net.fit(images, labels, epochs=5, batch_size=64, validation_split=0.1)

        The other options are `validation_data`, `shuffle`, `callbacks` and `progress`: see `caffepy.fit.fit_solver`.
        """
        from caffepy.arrays.fit import fit_net

        return fit_net(self, x, y, solver=solver, **options)

    # Blobs and parameters

    @cached_property
    def blobs(self) -> dict[str, Blob]:
        """Blob name to blob, in the order of the layers. `data` and `diff` are writable numpy arrays (N, C, H, W)."""
        return Named("blob", zip(self.engine_blobs, for_scripts(self.engine_blobs.values(), self.engine)))

    @property
    def params(self) -> dict[str, list[Blob]]:
        """Layer name to parameter blobs, for layers that have any."""
        with_blobs = ((layer.name, for_scripts(layer.blobs, self.engine)) for layer in self.layers if layer.blobs)
        return Named("layer with parameters", with_blobs)

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        take_back()
        for param in self.learnable_params:
            param.blob.flat("diff")[...] = 0

    def _call(self, when: str, i: int) -> None:
        hooks = self.hooks.get(when)
        if hooks:
            for hook in tuple(hooks):
                hook(i)
            take_back()

    def owns_param(self, layer: str, i: int) -> bool:
        """Whether the blob is the layer's own, not shared from an earlier layer."""
        return (layer, i) in self._owned

    def copy_from(self, source: weights.Paths) -> None:
        """Copy trained layers by name from `.caffemodel` or HDF5 files; refuses shapes that do not fit."""
        take_back()
        weights.load(self, source)

    def save(self, path: str | PathLike[str], write_diff: bool = False) -> None:
        """Write the weights as a binary caffemodel."""
        check_writable(path)
        take_back()
        weights.save(self, fspath(path), write_diff)

    def save_hdf5(self, path: str | PathLike[str], write_diff: bool = False) -> None:
        """Write the weights as HDF5."""
        check_writable(path)
        take_back()
        weights.save_hdf5(self, fspath(path), write_diff)

    def load_hdf5(self, path: str | PathLike[str]) -> None:
        """Copy trained layers by name from an HDF5 file."""
        take_back()
        weights.load_hdf5(self, fspath(path))

    def share_with(self, other: Net) -> None:
        """pycaffe's name of `share_trained_layers_with`."""
        self.share_trained_layers_with(other)

    def share_trained_layers_with(self, other: Net) -> None:
        """Use the parameters of the other net's layers of the same names, as test nets do."""
        for source in other.layers:
            target = self.layer_dict.get(source.name)
            if target is None:
                log.info("Ignoring source layer %s", source.name)
                continue
            if [b.shape for b in target.blobs] != [b.shape for b in source.blobs]:
                raise ShapeError(
                    f'layer "{source.name}" has parameters {[b.shape for b in target.blobs]} in one net '
                    f"and {[b.shape for b in source.blobs]} in the other"
                )
            for mine, theirs in zip(target.blobs, source.blobs):
                mine.share_data(theirs)

    # Facts

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    # pycaffe's names that scripts use in spite of the underscore

    _forward = forward_from_to
    _backward = backward_from_to
    _set_input_arrays = set_input_arrays
    _layer_names = layer_names

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        return [self.blob_loss_weights.get(name, 0.0) for name in self.blobs]

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    def _top_ids(self, i: int) -> list[int]:
        return [self._blob_names.index(name) for name in self.names_of_tops[i]]

    def _bottom_ids(self, i: int) -> list[int]:
        return [self._blob_names.index(name) for name in self.names_of_bottoms[i]]

    @property
    def data_bytes(self) -> int:
        """Memory for all tops, every Split and in-place top counted, as Caffe reports it."""
        return 4 * sum(blob.count for tops in self.tops for blob in tops)

    def output_values(self) -> Iterator[tuple[str, float, Any]]:
        """Name, loss weight and host array of each output blob."""
        self.settle()
        for name in self.outputs:
            yield name, self.blob_loss_weights.get(name, 0.0), self.engine_blobs[name].host()
