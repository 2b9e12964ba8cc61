"""The tables of forks' words agree with the schema, with each other and with the registry of layers."""

from __future__ import annotations

import pytest

from caffepy.net.layer import layer_types
from caffepy.proto import caffe_pb2, dialects

ENGINE = caffe_pb2.ConvolutionParameter.Engine


def fields(message: str) -> set[str]:
    return set(getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("message", [*dialects.FIELDS, *dialects.RENAMED])
def test_messages_are_there(message):
    assert fields(message)


@pytest.mark.parametrize("message", dialects.FIELDS)
def test_foreign_fields_are_none_of_ours(message):
    assert not fields(message) & set(dialects.FIELDS[message])


@pytest.mark.parametrize("message", dialects.RENAMED)
def test_what_is_renamed_is_no_field_of_ours(message):
    assert not fields(message) & set(dialects.RENAMED[message])


def test_layers_that_have_none_here():
    unknown = {name for types in dialects.UNKNOWN_TYPES.values() for name in types.split()}
    assert not unknown & set(layer_types())
    assert dialects.whose("GRN") == "MyCaffe" and not dialects.whose("Convolution")


def test_caffes_own_types_are_all_here():
    assert set(layer_types()) >= dialects.CAFFE_TYPES


@pytest.mark.parametrize("layer_type", dialects.MISPLACED)
def test_misplaced_parameters_are_ours(layer_type):
    assert layer_type in layer_types()
    assert set(dialects.MISPLACED[layer_type].values()) <= fields("LayerParameter")


def test_values_of_enums_are_ours():
    for enum, values in dialects.VALUES.items():
        ours = set(dict({"Phase": caffe_pb2.Phase, "DB": caffe_pb2.DataParameter.DB}.get(enum, ENGINE).items()))
        assert {value.here for value in values.values()} <= ours and not ours & set(values)


def test_old_types_of_forks_have_a_layer_or_are_known_to_have_none():
    for name, layer_type in dialects.V1_TYPES.items():
        assert layer_type in layer_types() or dialects.whose(layer_type)
        assert name not in dict(caffe_pb2.V1LayerParameter.LayerType.items())
