"""A training that is only looked at: without tests, snapshots and log."""

from __future__ import annotations

from caffepy.proto.caffe_pb2 import SolverParameter

_LEFT_OUT = (
    "test_iter test_interval test_net test_net_param test_state snapshot snapshot_best early_stop display "
    "tensorboard_dir"
)


def brief(param: SolverParameter) -> SolverParameter:
    """The definition of one: a copy with a seed, so that it can be repeated."""
    copied = SolverParameter()
    copied.CopyFrom(param)
    for field in _LEFT_OUT.split():
        copied.ClearField(field)  # type: ignore[arg-type]
    if copied.random_seed < 0:
        copied.random_seed = 1
    return copied
