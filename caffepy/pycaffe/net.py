"""Net as pycaffe's scripts know it: passes by name, numpy arrays in and out, and the short way over whole arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from caffepy import passes
from caffepy.arrays.options import shows_options
from caffepy.engine import Engine, get_engine
from caffepy.errors import ConfigError, ShapeError
from caffepy.net import net as core
from caffepy.net.blob import Array, Blob
from caffepy.net.executor import Executor
from caffepy.net.named import Named, listed, unknown
from caffepy.net.observer import Observer
from caffepy.net.weights import Paths
from caffepy.proto.caffe_pb2 import NetState
from caffepy.pycaffe import batched
from caffepy.pycaffe.host import for_scripts, take_back

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffepy.arrays.fit import FitOptions, History, SolverLike
    from caffepy.data.texts.vocabulary import Vocabulary
    from caffepy.generate.texts import TextChoice
    from caffepy.pycaffe.nccl import NCCL
    from caffepy.show.summary import Summary

Hook = Callable[[int], Any]


class Hooks(Observer):
    """pycaffe's functions of a layer's number, called before and after it runs; what scripts were lent comes back."""

    def __init__(self) -> None:
        self.functions: dict[tuple[str, bool], list[Hook]] = {}
        """By "before" or "after", and whether backward."""

    def sees_each_layer(self, backward: bool) -> bool:
        return any(of == backward for _, of in self.functions)

    @property
    def sees_layers(self) -> bool:
        return bool(self.functions)

    def before_pass(self, layers: Sequence[int], backward: bool) -> None:
        take_back()

    def before_layers(self, layers: Sequence[int], backward: bool) -> None:
        self._call(layers, "before", backward)

    def after_layers(self, layers: Sequence[int], backward: bool) -> None:
        self._call(layers, "after", backward)

    def _call(self, layers: Sequence[int], when: str, backward: bool) -> None:
        for function in tuple(self.functions.get((when, backward), ())):
            for i in layers:
                function(i)
            take_back()


class Net(core.Net):
    """A net built from a definition, for scripts and notebooks.

    `network_file` is the path of a prototxt or a NetParameter; `phase`, `level` and `stages` override and extend the
    definition's own `state`. `weights` names trained weights to load, several separated by commas. The older
    form `Net(network_file, weights, phase)` is understood, too.

        net = caffepy.Net("deploy.prototxt", caffepy.TEST, weights="trained.caffemodel")
        net.blobs["data"].data[...] = images  # (N, C, H, W)
        scores = net.forward()["prob"]

    `engine` is one, or its name: "numpy", "torch", or "onnxruntime", which runs nets of the TEST phase forward.
    Calls from several threads wait for each other. Raises ConfigError and ShapeError with the file, line and layer at
    fault.
    """

    def __init__(
        self,
        network_file: core.Source,
        phase: int | str | PathLike[str] | None = None,
        level: int | None = None,
        stages: Sequence[str] | None = (),
        weights: Paths | None = None,
        *,
        engine: Engine | str | None = None,
        state: NetState | None = None,
    ):
        by_runtime = engine == "onnxruntime"
        if isinstance(engine, str):
            engine = get_engine("numpy" if by_runtime else engine)
        if isinstance(phase, (str, PathLike)):
            if phase in ("TRAIN", "TEST"):
                raise ConfigError(f"the phase is caffepy.TRAIN (0) or caffepy.TEST (1), got {phase!r}")
            phase, weights, level = level, phase, None  # type: ignore[assignment]
        if isinstance(level, (str, PathLike)):
            raise ConfigError(
                f"level is a number, got {level!r}", hint="Name the weights: Net(file, phase, weights=...)"
            )
        super().__init__(network_file, phase, level, stages, weights, engine=engine, state=state)
        self._hooks = Hooks()
        self.observers.append(self._hooks)
        if by_runtime:
            from caffepy.export.session import OnnxRuntime

            self.executor = OnnxRuntime(self)

    def summary(self) -> Summary:
        """Layers with shapes, parameters, operations, memory and receptive fields; printed, a table."""
        from caffepy.show.summary import Summary

        return Summary.of(self)

    def __repr__(self) -> str:
        return str(self.summary())

    @property
    def passes(self) -> Executor:
        """Runs the net's layers: see `caffepy.passes`."""
        return passes.of(self)

    # Passes

    def forward(
        self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **inputs: Any
    ) -> dict[str, np.ndarray]:
        """Fill the input blobs with `inputs`, if any, and run the layers from `start` to `end`, both included.

        Returns the values of the net's outputs (or of the tops of `end`) and of `blobs`, by name. They are views
        of the blobs and belong to the last call, of whatever thread: copy what must outlive the next pass.
        """
        first = self._layer_index(start, 0)
        last = self._layer_index(end, len(self.nodes) - 1)
        names = [*(self.outputs if end is None else self.top_names[end]), *listed(blobs)]
        self._check_names(names)
        with self.lock:
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
        first = self._layer_index(start, len(self.nodes) - 1)
        last = self._layer_index(end, 0)
        names = [*(self.inputs if end is None else self.bottom_names[end]), *listed(diffs)]
        self._check_names(names)
        with self.lock:
            if gradients:
                self._fill("diff", gradients, self.outputs, "outputs")
            self.backward_from_to(first, last)
            return {name: self.engine_blobs[name].host("diff") for name in names}

    def forward_from_to(self, start: int = 0, end: int | None = None) -> Array:
        """Run layers `start` .. `end` (inclusive, default: the last); the weighted sum of losses they made."""
        return self.passes.forward(range(start, len(self.nodes) if end is None else end + 1))

    def backward_from_to(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward passes of layers `start` (default: the last) down to `end`."""
        first = len(self.nodes) - 1 if start is None else start
        self.passes.backward(i for i in range(first, end - 1, -1) if self.nodes[i].need_backward)

    def forward_backward(self) -> Array:
        """One forward and one backward pass; the loss."""
        return self.passes.forward_backward()

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: Any) -> dict[str, np.ndarray]:
        """`forward` over inputs of any length, batch by batch; the outputs and `blobs` as new arrays."""
        with self.lock:
            return batched.forward_all(self, blobs, inputs)

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **arrays: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Forward and backward over inputs and output gradients of any length; values and gradients, as new arrays."""
        with self.lock:
            return batched.forward_backward_all(self, blobs, diffs, arrays)

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Let the net's first layer, a MemoryData, go through `data` (n, C, H, W) and `labels` (n)."""
        layer = self.layers[0]
        if layer.type != "MemoryData":
            raise ConfigError(
                f'set_input_arrays needs a MemoryData layer at the start, but "{layer.name}" is of type {layer.type}'
            )
        layer.reset(data, labels)  # type: ignore[attr-defined]

    def before_forward(self, function: Hook) -> None:
        """Call `function(layer index)` before each layer's forward pass."""
        self._add_hook("before", False, function)

    def after_forward(self, function: Hook) -> None:
        """Call `function(layer index)` after each layer's forward pass."""
        self._add_hook("after", False, function)

    def before_backward(self, function: Hook) -> None:
        """Call `function(layer index)` before each layer's backward pass."""
        self._add_hook("before", True, function)

    def after_backward(self, function: Hook | NCCL) -> None:
        """Call `function(layer index)` after each layer's backward pass; a `caffepy.NCCL` joins the others."""
        self._add_hook("after", True, function)

    def _add_hook(self, when: str, backward: bool, function: Hook | NCCL) -> None:
        if callable(function):
            self._hooks.functions.setdefault((when, backward), []).append(function)
        else:
            function.join()

    def _layer_index(self, name: str | None, default: int) -> int:
        if name is None:
            return default
        if name not in self.layer_dict:
            raise unknown("layer", name, self.layer_dict)
        return self.layer_names.index(name)

    def _check_names(self, names: Sequence[str]) -> None:
        for name in names:
            _ = self.engine_blobs[name]

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

        with self.lock:
            take_back()
            return predict(self, x, batch_size, output)

    def evaluate(self, x: Any, y: Any = None, batch_size: int | None = None) -> dict[str, float]:
        """The mean loss, as "loss", and the mean of every single-valued output, by name.

            print(net.evaluate(test_images, test_labels)["accuracy"])

        `x` and `y` are as in `fit`. The layers compute as in the TEST phase, whatever the net's own.
        """
        from caffepy.arrays.fit import evaluate

        with self.lock:
            take_back()
            return evaluate(self, x, y, batch_size)

    @shows_options
    def fit(self, x: Any, y: Any = None, *, solver: SolverLike | None = None, **options: Unpack[FitOptions]) -> History:
        """Train on arrays, with Adam or the `solver` of your choice: a prototxt, a message or a dict of its fields.

            history = net.fit(images, labels, epochs=5, batch_size=64, validation_split=0.1)

        The other options are `validation_data`, `shuffle`, `callbacks` and `progress`: see
        `caffepy.arrays.fit.fit_solver`.
        """
        from caffepy.arrays.fit import fit_net

        take_back()
        return fit_net(self, x, y, solver=solver, **options)

    def generate(
        self,
        prompt: str,
        length: int = 500,
        *,
        vocabulary: str | PathLike[str] | Vocabulary,
        seed: int | None = None,
        **choice: Unpack[TextChoice],
    ) -> str:
        """The text behind `prompt`, `length` tokens, by a net that was trained on text; the net for deployment.

            net = caffepy.Net("deploy.prototxt", caffepy.TEST, weights="trained.caffemodel")
            print(net.generate("def ", 200, vocabulary="vocabulary.json", temperature=0.8, seed=1))

        Tokens are drawn by `temperature`, `top_k` and `top_p`, or are those of a search with `beam` sequences; `stop`
        is a token that ends the text. Each token takes the pass of one step.
        """
        from caffepy.generate.texts import generate

        take_back()
        return generate(self, prompt, length, vocabulary, seed, **choice)

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
        take_back()
        super().clear_param_diffs()

    def copy_from(self, source: Paths) -> None:
        take_back()
        super().copy_from(source)

    def save(self, path: str | PathLike[str], write_diff: bool = False) -> None:
        take_back()
        super().save(path, write_diff)

    def save_hdf5(self, path: str | PathLike[str], write_diff: bool = False) -> None:
        take_back()
        super().save_hdf5(path, write_diff)

    def load_hdf5(self, path: str | PathLike[str]) -> None:
        take_back()
        super().load_hdf5(path)

    def share_with(self, other: core.Net) -> None:
        """pycaffe's name of `share_trained_layers_with`."""
        self.share_trained_layers_with(other)

    # Facts

    @property
    def top_names(self) -> dict[str, list[str]]:
        """Layer name to the names of its tops."""
        return Named("layer", ((node.layer.name, node.top_names) for node in self.nodes))

    @property
    def bottom_names(self) -> dict[str, list[str]]:
        """Layer name to the names of its bottoms."""
        return Named("layer", ((node.layer.name, node.bottom_names) for node in self.nodes))

    # pycaffe's names that scripts use in spite of the underscore

    _forward = forward_from_to
    _backward = backward_from_to
    _set_input_arrays = set_input_arrays

    @property
    def _layer_names(self) -> list[str]:
        return self.layer_names

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
        return [self._blob_names.index(name) for name in self.nodes[i].top_names]

    def _bottom_ids(self, i: int) -> list[int]:
        return [self._blob_names.index(name) for name in self.nodes[i].bottom_names]
