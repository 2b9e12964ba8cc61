from caffepy.serve.api import tensorflow_serving_pb2 as _tensorflow_serving_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Servable(_message.Message):
    __slots__ = ("transform", "labels_file", "input", "output", "batching", "warmup_passes", "top_k", "answer", "exclude_seen")
    class Answer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RATING: _ClassVar[Servable.Answer]
        TOP: _ClassVar[Servable.Answer]
    RATING: Servable.Answer
    TOP: Servable.Answer
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    LABELS_FILE_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    WARMUP_PASSES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    transform: Transform
    labels_file: str
    input: _containers.RepeatedCompositeFieldContainer[Tensor]
    output: _containers.RepeatedCompositeFieldContainer[Tensor]
    batching: _tensorflow_serving_pb2.BatchingParameters
    warmup_passes: int
    top_k: int
    answer: Servable.Answer
    exclude_seen: bool
    def __init__(self, transform: _Optional[_Union[Transform, _Mapping]] = ..., labels_file: _Optional[str] = ..., input: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., output: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., batching: _Optional[_Union[_tensorflow_serving_pb2.BatchingParameters, _Mapping]] = ..., warmup_passes: _Optional[int] = ..., top_k: _Optional[int] = ..., answer: _Optional[_Union[Servable.Answer, str]] = ..., exclude_seen: bool = ...) -> None: ...

class Transform(_message.Message):
    __slots__ = ("height", "width", "crop_size", "mean_file", "mean_value", "scale", "channels")
    class Channels(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        BGR: _ClassVar[Transform.Channels]
        RGB: _ClassVar[Transform.Channels]
        GRAY: _ClassVar[Transform.Channels]
    BGR: Transform.Channels
    RGB: Transform.Channels
    GRAY: Transform.Channels
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CROP_SIZE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FILE_FIELD_NUMBER: _ClassVar[int]
    MEAN_VALUE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    crop_size: int
    mean_file: str
    mean_value: _containers.RepeatedScalarFieldContainer[float]
    scale: float
    channels: Transform.Channels
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., crop_size: _Optional[int] = ..., mean_file: _Optional[str] = ..., mean_value: _Optional[_Iterable[float]] = ..., scale: _Optional[float] = ..., channels: _Optional[_Union[Transform.Channels, str]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "blob", "dim", "vocabulary")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    blob: str
    dim: _containers.RepeatedScalarFieldContainer[int]
    vocabulary: str
    def __init__(self, name: _Optional[str] = ..., blob: _Optional[str] = ..., dim: _Optional[_Iterable[int]] = ..., vocabulary: _Optional[str] = ...) -> None: ...
