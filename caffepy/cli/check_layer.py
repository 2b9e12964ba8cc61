"""caffepy check-layer: whether a layer does what a layer must."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from caffepy.cli import options
from caffepy.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from caffepy.net.layer import Count, Layer
    from caffepy.proto.caffe_pb2 import LayerParameter
    from caffepy.show.checks import Bottom


@click.command()
@click.argument("layer")
@click.option(
    "--param", default="", help="Its parameters: param_str (YAML), or for Caffe's types fields as in a prototxt."
)
@click.option(
    "--bottom",
    multiple=True,
    help="Shape of a bottom: 2,3,4,5; of whole numbers below 10: 2,3:index=10; of positive ones: 2,3:positive.",
)
@click.option("--tops", type=click.IntRange(min=0), help="How many tops (default: as few as it takes).")
@click.option(
    "--phase", type=options.choice(["TRAIN", "TEST"]), default="TRAIN", show_default=True, help="The layer's."
)
@options.engine
@options.max_memory
@options.imports
def command(layer, param, bottom, tops, phase, engine):
    """Check LAYER: shapes, gradients, in-place use, parts of a batch, exact resume, and that both engines agree.

    LAYER is a class, my_layers.py:MyLayer or my_package.layers:MyLayer, or a type, Convolution. Gradients are compared
    with differences of the layer's own forward pass, except at kinks. The exit status is 1 if something fails.
    """
    from caffepy.cli import terminal
    from caffepy.proto.caffe_pb2 import Phase
    from caffepy.show.checks import check_layer

    terminal.start_logging()
    kind, definition = find(layer, param)
    bottoms = [_bottom(text) for text in bottom] or default_bottoms(kind)
    if tops is None:
        tops = fewest(kind.num_top)
    found = check_layer(definition, bottoms, (engine,) if engine else ("numpy", "torch"), Phase.Value(phase), tops)
    widths = [max(len(check[i]) for check in found) for i in range(3)]
    for check in found:
        terminal.echo("  ".join([*(cell.ljust(width) for cell, width in zip(check[:3], widths)), check.text]))
    failed = sum(check.outcome == "fails" for check in found)
    terminal.echo(f"{failed} of {len(found)} checks failed" if failed else "nothing failed")
    if failed:
        raise SystemExit(1)


def find(name: str, param: str) -> tuple[type[Layer], LayerParameter]:
    """The class of a layer, and its definition. Raises ConfigError with the nearest name where there is none."""
    from caffepy.net.layer import layer_class
    from caffepy.net.param_str import declared
    from caffepy.proto import text
    from caffepy.proto.caffe_pb2 import LayerParameter, PythonParameter
    from caffepy.pycaffe.python_layer import PythonLayer

    module, _, class_name = name.rpartition(":")
    cls: Any = _class(module, class_name) if module else layer_class(name)
    if issubclass(cls, PythonLayer):
        own = PythonParameter(module=cls.__module__, layer=class_name, param_str=param)
        return layer_class("Python"), LayerParameter(name=class_name, type="Python", python_param=own)
    definition = LayerParameter(name=class_name, type=cls.type)
    if declared(cls):
        definition.param_str = param
    else:
        text.parse(param, definition, "--param")
    return cls, definition


def _class(module: str, name: str) -> Any:
    from caffepy import plugins
    from caffepy.net.layer import Layer, layer_class, layer_types
    from caffepy.pycaffe.alias import caffe_is_caffepy
    from caffepy.pycaffe.python_layer import PythonLayer

    caffe_is_caffepy()
    classes = {key: value for key, value in vars(plugins.load(module)).items() if inspect.isclass(value)}
    layers = {key: value for key, value in classes.items() if issubclass(value, (Layer, PythonLayer))}
    if name not in layers:
        problem = f"{name} is no layer" if name in classes else f'there is no class "{name}"'
        raise ConfigError(problem, where=module, hint=did_you_mean(name, layers) or f"It has {', '.join(layers)}.")
    cls = layers[name]
    if issubclass(cls, Layer) and (cls.type not in layer_types() or layer_class(cls.type) is not cls):
        raise ConfigError(
            f"no type is registered for {name}", where=module, hint=f'Write above it: @caffepy.register_layer("{name}")'
        )
    return cls


def _bottom(text: str) -> Bottom:
    """Of `2,3,4,5`, with `:positive` or `:index=10` behind it."""
    from caffepy.show.checks import Bottom

    sizes, _, kind = text.partition(":")
    kind, _, classes = kind.partition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(",") if size)
        if kind not in ("", "normal", "positive", "index") or (kind == "index") != bool(classes):
            raise ValueError
        return Bottom(shape, kind or "normal", int(classes or 0))
    except ValueError:
        raise ConfigError(
            f'--bottom takes a shape, got "{text}"', hint="For example: 2,3,4,5 or 8:index=10 or 2,3:positive."
        ) from None


def default_bottoms(kind: type[Layer]) -> list[Bottom]:
    """As few as the layer takes: (2, 3, 4, 5), or for what compares with a label (4, 5) and a label for each item."""
    from caffepy.show.checks import Bottom

    count = fewest(kind.num_bottom)
    if kind.takes_label:
        return [*[Bottom((4, 5))] * (count - 1), Bottom((4,), "index", 5)]
    return [Bottom((2, 3, 4, 5))] * count


def fewest(count: Count) -> int:
    """The least number of blobs, but one where a layer takes any number."""
    return count if isinstance(count, int) else max(count[0], 1)
