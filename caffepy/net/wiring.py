"""Which layers a net has: include/exclude rules, and a Split wherever a blob has several readers."""

from __future__ import annotations

from collections.abc import Iterator

from caffepy.errors import ConfigError, did_you_mean
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, NetStateRule, Phase

Top = tuple[int, int]  # layer index, top index


def filter_layers(
    param: NetParameter, place_of: Iterator[str], state: NetState | None = None
) -> Iterator[tuple[LayerParameter, str]]:
    """The layers whose rules the net's state, or `state`, meets, each with its place in the file."""
    state = state or param.state
    for layer, place in zip(param.layer, place_of):
        if layer.include and layer.exclude:
            raise ConfigError(
                "a layer has either include or exclude rules, not both", where=f'{place}layer "{layer.name}"'
            )
        included = not layer.include or any(meets(state, rule) for rule in layer.include)
        if included and not any(meets(state, rule) for rule in layer.exclude):
            yield layer, place


def meets(state: NetState, rule: NetStateRule) -> bool:
    """Whether all that the rule says holds."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and all(stage in state.stage for stage in rule.stage)
        and not any(stage in state.stage for stage in rule.not_stage)
    )


def describe(state: NetState) -> str:
    stages = "".join(f', stage "{s}"' for s in state.stage if s)
    return f"phase {Phase.Name(state.phase)}, level {state.level}{stages}"


def left_out(param: NetParameter, kept: list[LayerParameter]) -> dict[str, str]:
    """For each top of a layer that the rules drop, a sentence that says so."""
    names = {layer.name for layer in kept}
    return {
        top: f'"{top}" is made by layer "{layer.name}", which include/exclude leave out in {describe(param.state)}.'
        for layer in param.layer
        if layer.name not in names
        for top in layer.top
    }


def insert_splits(
    layers: list[LayerParameter], places: list[str], dropped: dict[str, str] | None = None
) -> Iterator[LayerParameter]:
    """The layers with a Split after every top that is read more than once.

    A Split is called `<blob>_<layer>_<top index>_split` and its tops add `_0`, `_1`, ... in order of use. A top's
    own non-zero `loss_weight` counts as its first use and moves to the Split.
    """
    last_top: dict[str, Top] = {}
    source: dict[Top, Top] = {}
    uses: dict[Top, int] = {}
    weights: dict[Top, float] = {}
    for i, layer in enumerate(layers):
        for j, name in enumerate(layer.bottom):
            if name not in last_top:
                raise unknown_bottom(layer, name, layers, places[i], dropped or {})
            source[i, j] = last_top[name]
            uses[last_top[name]] = uses.get(last_top[name], 0) + 1
        for j, name in enumerate(layer.top):
            last_top[name] = (i, j)
        for name, weight in zip(layer.top, layer.loss_weight):
            top = last_top[name]
            weights[top] = weight
            if weight:
                uses[top] = uses.get(top, 0) + 1
    used: dict[Top, int] = {}
    for i, original in enumerate(layers):
        layer = original
        if any(uses[source[i, j]] > 1 for j in range(len(layer.bottom))):
            layer = _copy(original)
            for j, name in enumerate(original.bottom):
                top = source[i, j]
                if uses[top] > 1:
                    layer.bottom[j] = _split_top(name, layers[top[0]].name, top[1], used.get(top, 0))
                    used[top] = used.get(top, 0) + 1
        splits = []
        for j, name in enumerate(original.top):
            count, weight = uses.get((i, j), 0), weights.get((i, j), 0)
            if count > 1:
                splits.append(_split(name, original.name, j, count, weight))
                if weight:
                    if layer is original:
                        layer = _copy(original)
                    layer.ClearField("loss_weight")
                    used[i, j] = used.get((i, j), 0) + 1
        yield layer
        yield from splits


def unknown_bottom(
    layer: LayerParameter, name: str, layers: list[LayerParameter], place: str, dropped: dict[str, str]
) -> ConfigError:
    tops = {top for other in layers for top in other.top}
    if name in tops:
        maker = next(other.name for other in layers if name in other.top)
        hint = f'"{name}" is made by layer "{maker}", which comes later: move this layer behind it.'
    else:
        hint = dropped.get(name) or did_you_mean(name, tops) or "No layer before it has a top of this name."
    return ConfigError(f'unknown bottom "{name}"', where=f'{place}layer "{layer.name}"', hint=hint)


def _copy(layer: LayerParameter) -> LayerParameter:
    out = LayerParameter()
    out.CopyFrom(layer)
    return out


def _split_name(blob: str, layer: str, top_index: int) -> str:
    return f"{blob}_{layer}_{top_index}_split"


def _split_top(blob: str, layer: str, top_index: int, use: int) -> str:
    return f"{_split_name(blob, layer, top_index)}_{use}"


def _split(blob: str, layer: str, top_index: int, count: int, weight: float) -> LayerParameter:
    split = LayerParameter(name=_split_name(blob, layer, top_index), type="Split", bottom=[blob])
    split.top.extend(_split_top(blob, layer, top_index, use) for use in range(count))
    if weight:
        split.loss_weight.extend([weight] + [0] * (count - 1))
    return split
