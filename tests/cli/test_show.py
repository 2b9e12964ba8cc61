"""`caffepy show` finds out what a file is and prints what is in it."""

from __future__ import annotations

import pytest

from caffepy.cli import main
from tests.support import GOLDEN

EXPECTED = {
    "text/lenet_iter_4.caffemodel": ['caffemodel of "LeNet", 9 layers', "conv1  Convolution", "3x1x5x5 3"],
    "text/lenet_iter_4.solverstate": ["solver state of iteration 4", 'weights "lenet_iter_4.caffemodel"', "3x1x5x5"],
    "text/solver.prototxt": ["solver definition", "max_iter: 8"],
    "text/lenet_train_test.prototxt": ['definition of "LeNet"', "pool1", "Pooling"],
    "db/mean_mnist_lmdb.binaryproto": ["blob 1x1x", "mean "],
    "upgrade/v1_model.in.caffemodel": ["old format", "5 layers"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_show(name, capfd):
    main(["show", str(GOLDEN / name)])
    out = capfd.readouterr().out
    for part in EXPECTED[name]:
        assert part in out


def test_show_hdf5(tmp_path, capfd):
    import h5py

    path = next((GOLDEN / "solver").glob("*.h5"))
    with h5py.File(path) as golden:
        for kind in ("caffemodel", "solverstate"):
            (tmp_path / f"{kind}.h5").write_bytes(golden[f"snapshot/{kind}.h5"][()].tobytes())
    main(["show", str(tmp_path / "caffemodel.h5")])
    main(["show", str(tmp_path / "solverstate.h5")])
    out = capfd.readouterr().out
    assert "weights (HDF5)" in out and "solver state (HDF5) of iteration 6" in out


def test_names_that_are_no_utf8(tmp_path, capfd):
    raw = b"\x0a\x01n" + b"\xa2\x06\x08" + b"\x0a\x02\xff\xfe" + b"\x12\x02\xff\xfe"
    (tmp_path / "x.caffemodel").write_bytes(raw)
    main(["show", str(tmp_path / "x.caffemodel")])
    assert 'caffemodel of "n", 1 layers' in capfd.readouterr().out


def test_a_missing_file(tmp_path, capfd):
    (tmp_path / "weights.caffemodel").touch()
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path / "weight.caffemodel")])
    assert capfd.readouterr().err == (
        f"error: {tmp_path}/weight.caffemodel: cannot read the file: No such file or directory\n"
        '  Did you mean "weights.caffemodel"?\n'
    )


def test_a_foreign_file_is_refused(tmp_path, capfd):
    (tmp_path / "x.bin").write_bytes(b"\xff" * 100)
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path / "x.bin")])
    assert "this is no caffemodel, solver state, mean file or definition" in capfd.readouterr().err
