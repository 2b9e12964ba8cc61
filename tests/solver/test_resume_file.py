"""The resume file: read back as it was written, refused in all that was changed, never believed."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from caffepy import rng
from caffepy.errors import SnapshotError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import resume_file
from tests.campaign.mutants import mutated_value
from tests.data.databases import database, image_list, pictures

NET = """net_param {
  layer { name: "data" type: "Data" top: "data" top: "label"
    data_param { source: "db" batch_size: 2 shuffle: true } transform_param { mirror: true crop_size: 8 } }
  layer { name: "list" type: "ImageData" top: "seen" top: "seen_label"
    image_data_param { source: "list.txt" batch_size: 2 shuffle: true } }
  layer { name: "rnn" type: "RNN" bottom: "frames" bottom: "mark" top: "rnn"
    recurrent_param { num_output: 2 weight_filler { type: "xavier" } } }
  layer { name: "frames" type: "DummyData" top: "frames" top: "mark"
    dummy_data_param { shape { dim: 3 dim: 1 dim: 2 } shape { dim: 3 dim: 1 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
  layer { name: "quiet" type: "Silence" bottom: "seen" bottom: "seen_label" bottom: "rnn" }
} base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 average_loss: 3 random_seed: 4 snapshot_prefix: "snap" """
# Layers are set up in order, so the source of the frames comes first.
FRAMES = NET[NET.index('  layer { name: "frames"') : NET.index('  layer { name: "ip"')]
NET = NET.replace(FRAMES, "").replace('  layer { name: "rnn"', f'{FRAMES}  layer {{ name: "rnn"')


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A solver of layers with states of every kind, two iterations and a snapshot old; and what the file holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        database(Path("db"), pictures(3))
        image_list(Path(), pictures(3))
        built = Solver(text.parse(NET, SolverParameter()), file="solver.prototxt")
        built.step(2)
        built.snapshot()
        yield built, Path("snap_iter_2.resume").read_bytes()


@pytest.fixture
def resume(trained):
    """The function that resumes from other bytes in the file's place, and what is said of them.

    The snapshot is whole again afterwards.
    """
    solver, whole = trained
    file = Path("snap_iter_2.resume")

    def resume_from(raw: bytes) -> str:
        file.write_bytes(raw)
        try:
            solver.restore("snap_iter_2.solverstate")
        except SnapshotError as error:
            return str(error)
        solver.step(1)  # where it stands now, training goes on
        return ""

    yield resume_from
    file.write_bytes(whole)
    solver.restore("snap_iter_2.solverstate")


def content_of(raw: bytes) -> dict:
    return json.loads(raw)["content"]


def framed(content) -> bytes:
    """A content as if it had been written so, with the right checksum."""
    raw = json.dumps(content).encode()
    return b'{"format": 2, "crc32": %d, "content": %s}' % (zlib.crc32(raw), raw)


def test_what_is_written_is_read(tmp_path):
    values = {"a": np.arange(6, dtype=np.uint32).reshape(2, 3), "b": [1, 2.5, None, "x", np.float32(0.5), float("inf")]}
    content = {
        **values,
        "iter": 1,
        "files": {"x": [1, 2]},
        "random": rng.current().state,
        "layers": [{"l": {"position": [[0, 1], None]}}],
        "smoothed_loss": {"losses": [0.5], "count": 1},
    }
    resume_file.write(str(tmp_path / "r"), content)
    found = resume_file.read(str(tmp_path / "r"))
    assert found["a"].tolist() == values["a"].tolist() and found["a"].dtype == np.uint32
    assert found["b"] == [1, 2.5, None, "x", 0.5, float("inf")]
    assert found["layers"] == content["layers"]


def test_it_is_json_with_a_checksum(trained):
    _, whole = trained
    parsed = json.loads(whole)
    assert list(parsed) == ["format", "crc32", "content"] and parsed["format"] == 2
    assert framed(parsed["content"]) == whole


def test_the_older_format_is_read(trained, resume):
    _, whole = trained
    content = content_of(whole)
    assert resume(json.dumps({"format": 1, **content}).encode()) == ""
    assert resume(json.dumps({"format": 1, **content, "of_a_later_version": [1]}).encode()) == ""


@pytest.mark.parametrize("flip", range(0, 400, 7))
def test_a_changed_byte_is_found(trained, resume, flip):
    _, whole = trained
    at = flip * len(whole) // 400
    assert resume(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


@pytest.mark.parametrize("position", [-1, 625, 2**31, 2**62, 1.5, None, "0"])
def test_a_wrong_position_of_the_random_state_is_refused(trained, resume, position):
    """numpy would read beyond its memory."""
    _, whole = trained
    for path in (("random",), ("layers", 0, "data", "position", 1)):
        content = content_of(whole)
        state = content
        for key in path:
            state = state[key]
        state["state"]["pos"] = position
        assert ".state.pos is no whole number from 0 to 624" in resume(framed(content))


def test_a_position_behind_the_data_is_refused(tmp_path):
    import h5py

    from tests.data.databases import layer

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((5, 2))
    (tmp_path / "list.txt").write_text(str(tmp_path / "a.h5"))
    data = layer("HDF5Data", f'hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 1 }}', tops="data").layers[
        0
    ]
    with pytest.raises(ValueError, match="it stands at row 5 of 5"):
        data.set_state({"position": [[0, 5], None], "seed": 0})


def test_a_resume_file_of_another_iteration_is_refused(trained, resume):
    _, whole = trained
    content = content_of(whole)
    content["iter"] = 3
    assert resume(framed(content)).startswith(
        "snap_iter_2.solverstate: the state is of iteration 2, its resume file of iteration 3\n  Use another snapshot"
    )


def test_the_state_of_another_layer_is_refused(trained, resume):
    _, whole = trained
    content = content_of(whole)
    content["layers"][0]["data"]["position"] = [[0, 1], None]  # as if nothing had been drawn
    assert resume(framed(content)) == (
        'snap_iter_2.resume: the state of layer "data" is not one of this net: it.position[1] is no mapping: None\n'
        "  Remove it to resume as Caffe does."
    )


def test_what_is_not_there_is_said(trained, resume, caplog):
    _, whole = trained
    content = content_of(whole)
    del content["layers"][0]["rnn"]
    content["layers"].append({})
    assert resume(framed(content)) == ""
    assert 'snap_iter_2.resume: there is no state of layer "rnn", which starts anew' in caplog.text
    assert "snap_iter_2.resume: it is of a solver with 2 nets, this one has 1" in caplog.text


def test_a_state_without_weights_is_resumed(trained, resume):
    """Of Caffe, which allows an empty name."""
    from caffepy.proto.caffe_pb2 import SolverState

    solver, _ = trained
    whole = Path("snap_iter_2.solverstate").read_bytes()
    state = SolverState.FromString(whole)
    state.learned_net = ""
    Path("snap_iter_2.solverstate").write_bytes(state.SerializeToString())
    Path("snap_iter_2.resume").unlink()
    try:
        solver.restore("snap_iter_2.solverstate")
    finally:
        Path("snap_iter_2.solverstate").write_bytes(whole)


@pytest.mark.parametrize("field", ["iter", "current_step"])
def test_a_state_before_the_first_iteration_is_refused(trained, resume, field):
    from caffepy.proto.caffe_pb2 import SolverState

    solver, _ = trained
    whole = Path("snap_iter_2.solverstate").read_bytes()
    state = SolverState.FromString(whole)
    setattr(state, field, -1)
    Path("snap_iter_2.solverstate").write_bytes(state.SerializeToString())
    try:
        with pytest.raises(SnapshotError, match="it is of iteration"):
            solver.restore("snap_iter_2.solverstate")
    finally:
        Path("snap_iter_2.solverstate").write_bytes(whole)


@pytest.mark.parametrize("written", ["changed", "older", "framed"])
def test_structural_mutants_are_refused_or_harmless(trained, resume, written):
    """As they are (the checksum finds them), in the format without one, and with the right one."""
    _, whole = trained
    content = content_of(whole)
    value = json.loads(whole) if written == "changed" else content
    outcomes = []

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(mutated_value(value))
    def trial(mutant):
        raw = framed(mutant) if written == "framed" else json.dumps(mutant).encode()
        outcomes.append((resume(raw), mutant))

    trial()
    if written == "changed":
        assert not [mutant for error, mutant in outcomes if not error and mutant != value]
    else:
        assert sum(bool(error) for error, _ in outcomes) > len(outcomes) * 0.7
