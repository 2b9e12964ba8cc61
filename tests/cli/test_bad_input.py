"""Every mistake of a newcomer: one or two lines with place and remedy, exit status 1, no traceback, nothing written."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from caffepy.cli import main
from caffepy.data.sources.databases import write_lmdb
from caffepy.data.sources.datum import from_image
from caffepy.data.sources.lmdb import LmdbReader

NET = """name: "n"
layer {
  name: "data"
  type: "Data"
  top: "data"
  top: "label"
  data_param { source: "db" batch_size: 4 backend: LMDB }
}
layer {
  name: "ip"
  type: "InnerProduct"
  bottom: "data"
  top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer {
  name: "loss"
  type: "SoftmaxWithLoss"
  bottom: "ip"
  bottom: "label"
  top: "loss"
}
"""
SOLVER = """net: "net.prototxt"
base_lr: 0.01
lr_policy: "fixed"
max_iter: 2
snapshot_prefix: "out"
"""
MAKE = "\n  Caffe-style databases are made with `caffepy convert-mnist`, `caffepy convert-imageset` and their like."
AGAIN = "\n  Convert the data again. `caffepy data inspect` counts such records: if all are, no Caffe tool wrote them."


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A net, a solver and databases of eight pictures, labelled 0 to 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    database("db", [(i % 3, (1, 4, 4)) for i in range(8)])
    return tmp_path


def database(name: str, records) -> None:
    images = (from_image(np.zeros(shape, np.uint8), label) for label, shape in records)
    write_lmdb(name, ((b"%08d" % i, image.SerializeToString()) for i, image in enumerate(images)))


def failure(line: str, capsys) -> str:
    """What the command says of the error, behind the log lines."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    err = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in err
    error = err[err.index("error: ") :].rstrip("\n")
    assert error.count("\n") <= 1
    return error.removeprefix("error: ")


NETS = {
    # what is replaced by what: the message
    ("num_output", "num_outptu"): (
        'net.prototxt:14:25: layer "ip": no field "num_outptu" in InnerProductParameter\n  Did you mean "num_output"?'
    ),
    ('type: "Inner', 'tpye: "Inner'): (
        'net.prototxt:11:3: layer "ip": no field "tpye" in LayerParameter\n  Did you mean "type"?'
    ),
    ('"InnerProduct"', '"InnerProdcut"'): (
        'net.prototxt:9:1: layer "ip": unknown layer type "InnerProdcut"\n  Did you mean "InnerProduct"?'
    ),
    ('bottom: "ip"', 'bottom: "ipp"'): 'net.prototxt:16:1: layer "loss": unknown bottom "ipp"\n  Did you mean "ip"?',
    ('name: "ip"', 'name: "ip" include { phase: TEST }'): (
        'net.prototxt:16:1: layer "loss": unknown bottom "ip"\n'
        '  "ip" is made by layer "ip", which include/exclude leave out in phase TRAIN, level 0.'
    ),
    ("LMDB", "LMBD"): 'net.prototxt:7:52: layer "data": no value "LMBD" in DataParameter.DB\n  Did you mean "LMDB"?',
    ("xavier", "xaver"): (
        'net.prototxt:9:1: layer "ip": unknown filler type "xaver"\n  Did you mean "xavier"?'
    ),
    ("num_output: 3", ""): 'net.prototxt:9:1: layer "ip": inner_product_param.num_output must be at least 1',
    ("batch_size: 4", ""): (
        'net.prototxt:2:1: layer "data": data_param.batch_size must be at least 1\n  Set data_param { batch_size: 64 }.'
    ),
    ('source: "db"', ""): (
        'net.prototxt:2:1: layer "data": data_param.source is not set\n  It names the folder of the database.'
    ),
    ('  bottom: "label"\n', ""): (
        'net.prototxt:16:1: layer "loss": SoftmaxWithLoss takes 2 bottom blob(s), 1 given\n'
        '  Each line bottom: "name" of the layer gives one: add 1.'
    ),
    ('"db"', '"dbb"'): 'net.prototxt:2:1: layer "data": dbb: there is no such LMDB\n  Did you mean "db"?',
    ('"db"', '"data/db"'): (
        'net.prototxt:2:1: layer "data": data/db: there is no such LMDB\n'
        "  There is no folder data in {folder}, where the command was started."
    ),
    ('"db"', '"solver.prototxt"'): (
        'net.prototxt:2:1: layer "data": solver.prototxt: '
        "this is no LMDB (MDB_INVALID: File is not an LMDB file)" + MAKE
    ),
    ('"db"', '"."'): 'net.prototxt:2:1: layer "data": .: this is no LMDB: the folder has no file data.mdb' + MAKE,
    ('top: "label"', 'top: "label" top: "x" top: "y"'): (
        'net.prototxt:2:1: layer "data": Data takes 1 to 2 top blob(s), 4 given\n'
        '  Each line top: "name" of the layer gives one: leave out 2.'
    ),
    # shapes
    ("data_param", "transform_param { crop_size: 9 } data_param"): (
        'net.prototxt:2:1: layer "data": db, key "00000000": crop_size 9 is larger than the picture, 4x4\n'
        "  Make crop_size smaller, or the pictures larger."
    ),
    ('bottom: "label"', 'bottom: "ip"'): (
        'net.prototxt:16:1: layer "loss": the labels "ip" have shape (4, 3), but "ip" (4, 3) '
        "with classes on axis 1 needs one label for each of 4 positions, (4,)"
    ),
    ("SoftmaxWith", "Euclidean"): (
        'net.prototxt:16:1: layer "loss": items of "ip" (4, 3) and "label" (4,) differ in size'
    ),
    ("num_output: 3", "num_output: 2"): (
        'net.prototxt:16:1: layer "loss": label 2 at position (2,) of "label" is outside 0 .. 1\n'
        "  The net distinguishes 2 classes: correct the labels or num_output."
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", NETS, ids=" for ".join)
def test_a_wrong_net(change, folder, capsys):
    assert change[0] in NET
    text = (
        NET.replace(*change)
        if change != ("SoftmaxWith", "Euclidean")
        else NET.replace("SoftmaxWithLoss", "EuclideanLoss")
    )
    (folder / "net.prototxt").write_text(text)
    expected = NETS[change].replace("{folder}", str(folder))
    before = sorted(folder.iterdir())
    assert failure("train --solver=solver.prototxt", capsys) == expected
    assert failure("time --model net.prototxt --iterations 1", capsys) == expected
    assert sorted(folder.iterdir()) == before


SOLVERS = {
    ('net: "net.prototxt"', ""): (
        "solver.prototxt: no train net is given: exactly one of net, net_param, train_net, train_net_param is needed\n"
        '  Set net: "train_val.prototxt".'
    ),
    ('net: "net.prototxt"', 'net: "net.prototxt" train_net: "net.prototxt"'): (
        "solver.prototxt: net and train_net are given: "
        "exactly one of net, net_param, train_net, train_net_param is needed\n"
        '  Set net: "train_val.prototxt".'
    ),
    ("max_iter: 2", ""): "solver.prototxt: max_iter is not set\n  Say how many iterations to train.",
    ("max_iter: 2", "max_iter: -2"): "solver.prototxt:4:1: max_iter must not be negative, got -2",
    ('"net.prototxt"', '"nett.prototxt"'): (
        'nett.prototxt: cannot read the file: No such file or directory\n  Did you mean "net.prototxt"?'
    ),
    ("base_lr: 0.01", ""): "solver.prototxt: base_lr is not set",
    ('lr_policy: "fixed"', ""): (
        "solver.prototxt: lr_policy is not set\n"
        "  Known policies: fixed, step, exp, inv, multistep, poly, sigmoid, cosine, onecycle."
    ),
    ('"fixed"', '"fixd"'): 'solver.prototxt:3:1: unknown lr_policy "fixd"\n  Did you mean "fixed"?',
    ('"fixed"', '"step"'): "solver.prototxt:3:1: lr_policy step needs a stepsize of at least 1",
    ("base_lr", "base_rl"): 'solver.prototxt:2:1: no field "base_rl" in SolverParameter\n  Did you mean "base_lr"?',
    ("max_iter", 'type: "SDG" max_iter'): 'solver.prototxt:4:1: unknown solver type "SDG"\n  Did you mean "SGD"?',
    ("max_iter", "test_iter: 1 max_iter"): (
        "solver.prototxt:4:1: test nets are given, but test_interval is not set\n"
        "  Set test_interval, or remove test_iter."
    ),
    ('"out"', '"no/out"'): (
        'solver.prototxt:5:1: snapshots cannot be written to "no/out": No such file or directory\n'
        "  There is no folder no in {folder}, where the command was started. "
        "Make the folder, or set snapshot_prefix to one that exists."
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", SOLVERS, ids=" for ".join)
def test_a_wrong_solver(change, folder, capsys):
    assert change[0] in SOLVER
    (folder / "solver.prototxt").write_text(SOLVER.replace(*change))
    before = sorted(folder.iterdir())
    assert failure("train --solver solver.prototxt", capsys) == SOLVERS[change].replace("{folder}", str(folder))
    assert sorted(folder.iterdir()) == before


def test_a_wrong_policy_is_found_before_nets_are_built(folder, capsys):
    (folder / "net.prototxt").write_text("this is none")
    (folder / "solver.prototxt").write_text(SOLVER.replace('"fixed"', '"fixd"'))
    assert "unknown lr_policy" in failure("train --solver solver.prototxt", capsys)


def test_a_test_that_never_runs_is_said(folder, capsys):
    (folder / "solver.prototxt").write_text(SOLVER + " test_interval: 1")
    main(["train", "--solver", "solver.prototxt"])
    assert "test_interval is set, but test_iter is not: there will be no test" in capsys.readouterr().err


def test_started_in_another_folder(folder, capsys, monkeypatch):
    """Paths of a definition are relative to where the command is started: the folder that has them is named."""
    other = folder / "models" / "small"
    other.mkdir(parents=True)
    solver = SOLVER.replace('"net.prototxt"', '"models/small/net.prototxt"').replace('"out"', '"models/small/out"')
    (other / "solver.prototxt").write_text(solver)
    (other / "net.prototxt").write_text(NET.replace('source: "db"', 'source: "models/small/db"'))
    monkeypatch.chdir(other)
    said = f"in {other}, where the command was started, but in {folder}: start it there."
    assert said in failure("train --solver solver.prototxt", capsys)
    assert said in failure("time --model net.prototxt", capsys)


def test_files_of_another_kind_are_told_from_each_other(folder, capsys):
    main(["train", "--solver", "solver.prototxt"])
    line = "train --solver solver.prototxt --weights out_iter_2.solverstate"
    assert failure(line, capsys) == (
        "out_iter_2.solverstate: this is a solver state, weights are expected\n  "
        "Weights are in out_iter_2.caffemodel. To resume: caffepy train --snapshot."
    )
    assert failure("show db", capsys) == "db: this is a folder\n  If it is a database: caffepy data inspect db"
    assert failure("extract-features net.prototxt out_iter_2.caffemodel ip o 1 lmdb", capsys).startswith(
        "MODEL is a file of weights, out_iter_2.caffemodel: WEIGHTS comes first, then MODEL"
    )


def test_databases_that_are_none(folder, capsys):
    write_lmdb("empty", [])
    write_lmdb("foreign", [(b"a", b"hello, world")])
    database("mixed", [(0, (1, 4, 4)), (1, (1, 5, 4))])
    for name, expected in {
        "empty": "empty: the LMDB is empty" + MAKE,
        "foreign": 'foreign, key "a": the record is damaged, or no Caffe Datum' + AGAIN,
        "mixed": (
            'mixed, key "00000001": the picture has shape (1, 5, 4), the batch began with (1, 4, 4)\n'
            "  Give all pictures one size, for example with convert-imageset --resize-height and -width."
        ),
    }.items():
        (folder / "net.prototxt").write_text(NET.replace('"db"', f'"{name}"'))
        assert failure("time --model net.prototxt", capsys) == f'net.prototxt:2:1: layer "data": {expected}'


def test_a_bad_record_in_the_middle_stops_the_training(folder, capsys):
    """Its error comes out of the background thread, and the snapshots made before stay."""
    database("late", [(0, (1, 4, 4))] * 10 + [(7, (1, 4, 4))] * 2)
    (folder / "net.prototxt").write_text(NET.replace('"db"', '"late"'))
    (folder / "solver.prototxt").write_text(SOLVER.replace("max_iter: 2", "max_iter: 9 snapshot: 2"))
    assert failure("train --solver solver.prototxt", capsys).startswith(
        'net.prototxt:16:1: layer "loss": label 7 at position (2,) of "label" is outside 0 .. 2\n'
    )
    assert (folder / "out_iter_2.solverstate").exists()


WEIGHTS = {
    "absent.caffemodel": "absent.caffemodel: cannot read the file: No such file or directory",
    "net.prototxt": "net.prototxt: this is no complete caffemodel: truncated, or another kind of file",
    "out_iter_1.caffemodel": (
        'out_iter_1.caffemodel: cannot read the file: No such file or directory\n'
        '  Did you mean "out_iter_2.caffemodel"?'
    ),
}  # fmt: skip


def test_wrong_weights_and_states(folder, capsys):
    main(["train", "--solver", "solver.prototxt"])
    for name, expected in WEIGHTS.items():
        assert failure(f"test --model net.prototxt --weights {name}", capsys) == expected
    assert failure("train --solver solver.prototxt --snapshot out_iter_3.solverstate", capsys) == (
        'out_iter_3.solverstate: cannot read the file: No such file or directory\n'
        '  Did you mean "out_iter_2.solverstate"?'
    )  # fmt: skip
    assert failure("train --solver solver.prototxt --snapshot net.prototxt", capsys).startswith(
        "net.prototxt: this is no complete solver state: truncated, or another kind of file"
    )
    (folder / "net.prototxt").write_text(NET.replace("num_output: 3", "num_output: 5"))
    assert failure("test --model net.prototxt --weights out_iter_2.caffemodel", capsys) == (
        'layer "ip": parameter 0 has shape (5, 16) here and (3, 16) in out_iter_2.caffemodel\n'
        "  To train it anew (fine-tuning), give the layer another name; to keep the weights, restore its parameters."
    )


def test_files_given_for_one_another(folder, capsys):
    assert failure("train --solver net.prototxt", capsys) == (
        'net.prototxt:1:1: no field "name" in SolverParameter\n'
        '  This looks like a net definition, a solver\'s is expected.'
    )  # fmt: skip
    assert failure("time --model solver.prototxt", capsys) == (
        'solver.prototxt:1:1: no field "net" in NetParameter\n'
        '  This looks like a solver definition, a net\'s is expected.'
    )  # fmt: skip
    assert failure("time --model db/data.mdb", capsys).startswith(
        "db/data.mdb: this is a binary file, a prototxt is expected\n"
    )
    assert failure("time --model db", capsys) == "db: cannot read the file: Is a directory"


def test_convert_mnist(folder, capsys):
    idx = lambda *shape: b"\0\0\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)  # noqa: E731
    (folder / "images").write_bytes(idx(2, 3, 3) + bytes(18))
    (folder / "labels").write_bytes(idx(3) + bytes(3))
    assert failure("convert-mnist images labels new", capsys) == (
        "images has 2 images, labels has 3 labels\n  The two files must belong together: both train or both t10k."
    )
    assert failure("convert-mnist labels images new", capsys) == (
        "labels: the IDX file has 1 axes, 3 are expected\n  The images come first, the labels second."
    )
    assert failure("convert-mnist image labels new", capsys) == (
        'image: cannot read the file: No such file or directory\n  Did you mean "images"?'
    )
    assert not (folder / "new").exists()
    (folder / "labels").write_bytes(idx(2) + b"\1\2")
    assert failure("convert-mnist images labels db", capsys) == (
        "db: the database exists already\n  Remove it or choose another name."
    )
    main(["convert-mnist", "images", "labels", "new"])
    assert len(LmdbReader("new")) == 2


def test_environment_variables(monkeypatch, capsys):
    from caffepy import engine

    monkeypatch.setenv("CAFFEPY_ENGINE", "nunpy")
    assert failure("time --model net.prototxt", capsys) == 'no engine "nunpy"\n  Known engines: numpy, torch.'
    monkeypatch.setenv("CAFFEPY_ENGINE", "numpy")
    monkeypatch.setenv("CAFFEPY_THREADS", "many")
    engine._engine.cache_clear()
    assert failure("time --model net.prototxt", capsys) == (
        'the environment variable CAFFEPY_THREADS is "many", not a number of threads'
    )


def test_engines_that_exclude_each_other(capsys):
    assert failure("time --model net.prototxt --engine numpy --gpu 0", capsys) == (
        "--gpu needs the torch engine, but --engine numpy is given\n  Leave out one of the two."
    )


RAISES = {
    "RuntimeError": "RuntimeError",
    "OSError(2, 'gone', 'x')": "FileNotFoundError: [Errno 2] gone: 'x'",
    "MemoryError('of mine')": "MemoryError: of mine",
    "ValueError('one\\ntwo')": "ValueError: one",
}


@pytest.mark.parametrize("error", RAISES)
@pytest.mark.parametrize("method", ["setup", "forward"])
def test_exceptions_of_a_python_layer(error, method, folder, monkeypatch, capsys):
    monkeypatch.syspath_prepend(folder)
    (folder / "raising.py").write_text(
        "from caffepy import Layer\nclass Raises(Layer):\n  def reshape(*a): pass\n"
        f"  def {method}(*a):\n    raise {error!s}\n"
    )
    (folder / "net.prototxt").write_text(
        '\nlayer { name: "l" type: "Python" python_param { module: "raising" layer: "Raises" } }'
    )
    try:
        assert failure("time --model net.prototxt", capsys) == (
            f'net.prototxt:2:1: layer "l": raising.Raises: {method} raised {RAISES[error]}\n  At {folder}/raising.py:5.'
        )
    finally:
        del sys.modules["raising"]
