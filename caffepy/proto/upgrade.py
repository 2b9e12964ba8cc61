"""Old definitions and weight files, brought to the current format in place.

Caffe has had three formats of a net: V0 (`layers { layer { type: "conv" } }`), V1
(`layers { type: CONVOLUTION }`) and today's (`layer { type: "Convolution" }`); a few smaller changes came
between and after. Each is a step here, in Caffe's order. An upgrade that raises leaves the message half done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from caffepy.errors import ConfigError, did_you_mean
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V1LayerParameter


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What `upgrade_net` did: the `steps` that were needed, and a sentence for each field that was `lost`."""

    steps: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.steps)


def upgrade_net(net: NetParameter) -> Upgrade:
    """Bring a net, with or without weights, to the current format; one that is current is left untouched."""
    if net.layer and net.layers:
        raise ConfigError(
            'the net has both "layer" and "layers" entries, which are of different formats',
            hint='Rewrite each "layers { type: CONVOLUTION ... }" as "layer { type: "Convolution" ... }".',
        )
    lost: list[str] = []
    done = {
        "V0 layers": _upgrade_v0_layers(net, lost),
        "transformation fields": _upgrade_transforms(net),
        "V1 layers": _upgrade_v1_layers(net),
        "input fields": _upgrade_inputs(net),
        "BatchNorm parameters": _upgrade_batch_norms(net),
    }
    return Upgrade(tuple(step for step, changed in done.items() if changed), tuple(lost))


def upgrade_solver(solver: SolverParameter) -> bool:
    """Turn `solver_type` into `type` and tell whether it was there; nets inside stay as they are."""
    if not solver.HasField("solver_type"):
        return False
    type_ = _SOLVER_TYPES[SolverParameter.SolverType.Name(solver.solver_type)]
    if solver.HasField("type"):
        raise ConfigError(
            'the solver has both "type" and the old "solver_type"',
            hint=f'Keep one of them: type: "{solver.type}", or type: "{type_}" for the old one.',
        )
    solver.type = type_
    solver.ClearField("solver_type")
    return True


_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


# V0 type: its V1 type, and the fields that go into the parameter message of that type.
_V0_TYPES = {
    "accuracy": ("ACCURACY", ""),
    "bnll": ("BNLL", ""),
    "concat": ("CONCAT", "concat_dim"),
    "conv": ("CONVOLUTION", "num_output biasterm weight_filler bias_filler pad kernelsize group stride"),
    "data": ("DATA", "source batchsize rand_skip"),
    "dropout": ("DROPOUT", "dropout_ratio"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", ""),
    "flatten": ("FLATTEN", ""),
    "hdf5_data": ("HDF5_DATA", "source batchsize"),
    "hdf5_output": ("HDF5_OUTPUT", ""),
    "im2col": ("IM2COL", ""),
    "images": ("IMAGE_DATA", "source batchsize rand_skip shuffle_images new_height new_width"),
    "infogain_loss": ("INFOGAIN_LOSS", "source"),
    "innerproduct": ("INNER_PRODUCT", "num_output biasterm weight_filler bias_filler"),
    "lrn": ("LRN", "local_size alpha beta k"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", ""),
    "pool": ("POOLING", "pool pad kernelsize stride"),
    "relu": ("RELU", ""),
    "sigmoid": ("SIGMOID", ""),
    "softmax": ("SOFTMAX", ""),
    "softmax_loss": ("SOFTMAX_LOSS", ""),
    "split": ("SPLIT", ""),
    "tanh": ("TANH", ""),
    "window_data": (
        "WINDOW_DATA",
        "source batchsize det_fg_threshold det_bg_threshold det_fg_fraction det_context_pad det_crop_mode",
    ),
}
_V0_RENAMED = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
}  # and without "det_" in front
# These go to `transform_param`, whatever the type.
_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_V0_KEPT = ("name", "blobs", "blobs_lr", "weight_decay")
_V0_IGNORED = ("type", "new_num", "new_channels")  # Caffe drops the last two without a word.


def _upgrade_v0_layers(net: NetParameter, lost: list[str]) -> bool:
    if not any(layer.HasField("layer") for layer in net.layers):
        return False
    _clear_others(net, ("name", "layers", "input", "input_dim", "force_backward"), "the net", lost)
    _absorb_padding(net)
    for index, layer in enumerate(net.layers):
        where = f'layer "{layer.layer.name}"' if layer.layer.name else f"layers[{index}]"
        _clear_others(layer, ("layer", "bottom", "top"), where, lost)
        _upgrade_v0_layer(layer, where, lost)
    return True


def _upgrade_v0_layer(layer: V1LayerParameter, where: str, lost: list[str]) -> None:
    old = layer.layer
    v1_type, own_fields = "NONE", ""
    if old.HasField("type"):
        if old.type not in _V0_TYPES:
            hint = did_you_mean(old.type, _V0_TYPES) or f"The types of V0 are {', '.join(_V0_TYPES)}."
            raise ConfigError(f'unknown type "{old.type}"', where=where, hint=hint)
        v1_type, own_fields = _V0_TYPES[old.type]
        layer.type = V1LayerParameter.LayerType.Value(v1_type)
    own_param = v1_type.lower() + "_param"
    for field, value in old.ListFields():
        name = field.name
        if name in _V0_KEPT or name == own_param:
            _copy(value, layer, name)
        elif name in _V0_TRANSFORM:
            _copy(value, layer.transform_param, _V0_TRANSFORM[name])
        elif name in own_fields.split():
            _copy(value, getattr(layer, own_param), _V0_RENAMED.get(name, name.removeprefix("det_")))
        elif name not in _V0_IGNORED:
            lost.append(f'{where}: the type "{old.type}" takes no field "{name}"; it is dropped')
    layer.ClearField("layer")


def _absorb_padding(net: NetParameter) -> None:
    """Remove padding layers; the layer that reads one takes over its bottom and its pad."""
    producers: dict[str, V1LayerParameter] = {}
    for layer in net.layers:
        for bottom in layer.bottom:
            source = producers.get(bottom)
            if source is None or source.layer.type != "padding":
                continue
            alone = len(layer.bottom) == len(source.bottom) == len(source.top) == 1
            if layer.layer.type not in ("conv", "pool") or not alone:
                raise ConfigError(
                    f'"{layer.layer.name}" cannot take over the padding of "{source.layer.name}"',
                    where=f'layer "{layer.layer.name}"',
                    hint="It needs one bottom and one top, for a conv or pool layer with no other bottom.",
                )
            layer.layer.pad = source.layer.pad
            layer.bottom[0] = source.bottom[0]
        for top in layer.top:
            producers[top] = layer
    for index in reversed(range(len(net.layers))):
        if net.layers[index].layer.type == "padding":
            del net.layers[index]


def _clear_others(message: Message, keep: Sequence[str], where: str, lost: list[str]) -> None:
    for field, _ in message.ListFields():
        if field.name not in keep:
            message.ClearField(field.name)
            lost.append(f'{where}: the field "{field.name}" has no place among V0 layers; it is dropped')


_TRANSFORMED = {
    V1LayerParameter.DATA: "data_param",
    V1LayerParameter.IMAGE_DATA: "image_data_param",
    V1LayerParameter.WINDOW_DATA: "window_data_param",
}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


def _upgrade_transforms(net: NetParameter) -> bool:
    sources = [(layer, _TRANSFORMED[layer.type]) for layer in net.layers if layer.type in _TRANSFORMED]
    if not any(getattr(layer, param).HasField(f) for layer, param in sources for f in _TRANSFORM_FIELDS):
        return False
    for layer, param in sources:
        # Caffe sets both messages in all of these layers, be they empty, once one of them needs the upgrade.
        source = getattr(layer, param)
        source.SetInParent()
        layer.transform_param.SetInParent()
        for field in _TRANSFORM_FIELDS:
            if source.HasField(field):
                setattr(layer.transform_param, field, getattr(source, field))
                source.ClearField(field)
    return True


# Names that are not just the words of the enum in CamelCase.
_V1_SPELLING = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
_V1_TYPES = {
    number: _V1_SPELLING.get(name, "".join(map(str.capitalize, name.split("_"))))
    for name, number in V1LayerParameter.LayerType.items()
}
# Lists of V1, one entry a blob: the field of today's `param { ... }`.
_V1_PARAM_LISTS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def _upgrade_v1_layers(net: NetParameter) -> bool:
    if not net.layers:
        return False
    for old in net.layers:
        _upgrade_v1_layer(old, net.layer.add())
    net.ClearField("layers")
    return True


def _upgrade_v1_layer(old: V1LayerParameter, new: LayerParameter) -> None:
    for field, value in old.ListFields():
        if field.name == "type":
            new.type = _V1_TYPES[value]
        elif field.name == "fork_type":
            new.type = value
        elif field.name == "fork_param":
            for part in value:
                new.MergeFrom(part)
        elif field.name in _V1_PARAM_LISTS:
            while len(new.param) < len(value):
                new.param.add()
            for spec, entry in zip(new.param, value, strict=False):
                setattr(spec, _V1_PARAM_LISTS[field.name], entry)
        else:  # same name and type in both formats
            _copy(value, new, field.name)


def _upgrade_inputs(net: NetParameter) -> bool:
    if not net.input:
        return False
    if net.input_shape or net.input_dim:
        four_dims = [net.input_dim[i : i + 4] for i in range(0, len(net.input_dim) - 3, 4)]
        shapes = [shape.dim for shape in net.input_shape] or four_dims
        if len(shapes) < len(net.input):
            raise ConfigError(
                f'the net has {len(net.input)} "input" but the shapes of only {len(shapes)}',
                where=f'input "{net.input[len(shapes)]}"',
                hint="Give each input an input_shape { dim: ... }, or four input_dim (N, C, H, W).",
            )
        layer = LayerParameter(name="input", type="Input", top=net.input)
        for shape in shapes[: len(net.input)]:
            layer.input_param.shape.add(dim=shape)
        net.layer.insert(0, layer)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
    return True


def _upgrade_batch_norms(net: NetParameter) -> bool:
    """Statistics are not learned; old definitions had to say so in three `param`s, and many said it wrong."""
    changed = False
    for layer in net.layer:
        if layer.type != "BatchNorm" or len(layer.param) != 3:
            continue
        for spec in layer.param:
            for field in ("lr_mult", "decay_mult"):
                if getattr(spec, field) != 0:
                    setattr(spec, field, 0)
                    changed = True
    return changed


def _copy(value: Any, target: Any, name: str) -> None:
    """Copy a field's value into `target.name`, a single value into a list too."""
    place = getattr(target, name)
    if isinstance(place, Message):
        place.CopyFrom(value)
    elif hasattr(place, "add"):
        # By fields: a message's own copy goes through bytes, 2.5 times slower for the blobs of a large model.
        for item in value:
            copied = place.add()
            for field, part in item.ListFields():
                _copy(part, copied, field.name)
    elif hasattr(place, "MergeFrom"):
        place.MergeFrom(value if hasattr(value, "MergeFrom") else [value])
    else:
        setattr(target, name, value)
