"""The kinds of file that are mutated: how a whole one is made, and how it is read. A new kind is a class here."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from caffepy.data.sources.databases import create_database
from caffepy.data.sources.datum import from_image
from tests.support import GOLDEN

KINDS: dict[str, Kind] = {}


class Kind:
    """One file, `name` in the folder that the process works in; `prepare` puts beside it what it takes to read it."""

    name: ClassVar[str]
    needs: ClassVar[str] = "caffepy"
    """The package without which there is none of it."""

    @property
    def available(self) -> bool:
        return find_spec(self.needs) is not None

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "name"):  # not a base of several
            KINDS[cls.__name__] = cls()

    def prepare(self, folder: Path) -> None:
        pass

    def whole(self) -> bytes:
        raise NotImplementedError

    def write(self, folder: Path, content: bytes) -> Path:
        path = folder / self.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def read(self, path: Path) -> object:
        raise NotImplementedError


def pictures(count: int = 12) -> list[np.ndarray]:
    return list(np.random.default_rng(3).integers(0, 256, (count, 3, 12, 10), np.uint8))


class SelfTest:
    """What the campaign must notice, by name."""

    name = "order"
    write = Kind.write

    def prepare(self, folder: Path) -> None:
        pass

    def whole(self) -> bytes:
        return b"fine"

    def read(self, path: Path) -> object:
        import os
        import time

        from caffepy.errors import DataError

        match path.read_bytes():
            case b"crash":
                os.abort()
            case b"hang":
                time.sleep(60)
            case b"fill":
                return bytearray(2 << 30)
            case b"raise":
                return 1 // 0
            case b"refuse":
                raise DataError("this is none")
        return None


class Lmdb(Kind):
    """Records in leaves and, of every third, in overflow pages; two levels; a list of free pages."""

    name = "db/data.mdb"

    def whole(self) -> bytes:
        import tempfile

        import lmdb

        with tempfile.TemporaryDirectory() as folder:
            with lmdb.open(f"{folder}/db", map_size=1 << 24) as env:
                for first in (0, 10):
                    with env.begin(write=True) as transaction:
                        for i in range(first, first + 12):
                            picture = np.full((3, 40 if i % 3 else 12, 10), i, np.uint8)
                            transaction.put(b"%08d" % i, from_image(picture, i).SerializeToString())
            return Path(folder, "db/data.mdb").read_bytes()

    def read(self, path: Path) -> object:
        from caffepy.data.sources.lmdb import LmdbReader

        reader = LmdbReader(path.parent)
        found = [reader[i] for i in range(min(len(reader), 100))]
        reader[len(reader) - 1]
        return found, reader[len(reader) // 2]


class LevelDb(Kind):
    """A part of a database, the others whole."""

    source = "mnist_leveldb_table"

    def __init_subclass__(cls, name: str, source: str = source) -> None:
        cls.name, cls.source = f"db/{name}", source
        super().__init_subclass__()

    def prepare(self, folder: Path) -> None:
        shutil.copytree(GOLDEN / "db" / self.source, folder / "db", dirs_exist_ok=True)

    def whole(self) -> bytes:
        return (GOLDEN / "db" / self.source / Path(self.name).name).read_bytes()

    def read(self, path: Path) -> object:
        from caffepy.data.sources.leveldb import LevelDbReader

        return list(LevelDbReader(path.parent))


_TABLES = sorted(path.name for path in (GOLDEN / "db" / LevelDb.source).iterdir())


class LevelDbTable(LevelDb, name=next(name for name in _TABLES if name.endswith((".ldb", ".sst")))):
    pass


class LevelDbManifest(LevelDb, name=next(name for name in _TABLES if name.startswith("MANIFEST"))):
    pass


class LevelDbCurrent(LevelDb, name="CURRENT"):
    pass


_LOGS = GOLDEN / "db" / "mnist_leveldb"


class LevelDbLog(LevelDb, name=next(_LOGS.glob("*.log")).name, source=_LOGS.name):
    pass


class Hdf5(Kind):
    """What an HDF5Data layer reads: contiguous, chunked and compressed datasets, and a link within the file."""

    name = "data.h5"

    def prepare(self, folder: Path) -> None:
        (folder / "list.txt").write_text("data.h5\n")

    def whole(self) -> bytes:
        import h5py

        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            file["data"] = np.arange(60, dtype=np.float32).reshape(6, 10)
            file.create_dataset("packed", data=np.ones((6, 50)), chunks=(2, 50), compression="gzip", shuffle=True)
            file["inner/label"] = np.arange(6)
            file["label"] = h5py.SoftLink("/inner/label")
        return out.getvalue()

    def read(self, path: Path) -> object:
        from caffepy.data.sources.hdf5 import Hdf5Rows

        return Hdf5Rows("list.txt", ["data", "packed", "label"]).load(0)


NET = """
layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "in" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }
"""


class Trained(Kind):
    """A file of a snapshot, the others whole; all is read into the solver that wrote it."""

    format = "BINARYPROTO"

    def __init_subclass__(cls, name: str, format: str = format) -> None:
        cls.name, cls.format = name, format
        super().__init_subclass__()

    def prepare(self, folder: Path) -> None:
        from caffepy.proto import text
        from caffepy.proto.caffe_pb2 import SolverParameter
        from caffepy.solver import Solver

        definition = (
            f'net_param {{ {NET} }} base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 snapshot_format: {self.format}'
        )
        self.solver = Solver(text.parse(definition, SolverParameter()), file="s.prototxt")
        self.solver.snapshot("snap_iter_0")
        self._whole = Path(self.name).read_bytes()
        if not self.name.endswith(".resume"):
            Path("snap_iter_0.resume").unlink()  # else its checksum finds what is to be found by reading

    def whole(self) -> bytes:
        return self._whole

    def read(self, path: Path) -> object:
        from caffepy.show.describe import describe

        self.solver.restore(f"snap_iter_0.solverstate{'.h5' if self.format == 'HDF5' else ''}")
        return None if path.suffix == ".resume" else describe(str(path))


class Caffemodel(Trained, name="snap_iter_0.caffemodel"):
    pass


class Solverstate(Trained, name="snap_iter_0.solverstate"):
    pass


class CaffemodelHdf5(Trained, name="snap_iter_0.caffemodel.h5", format="HDF5"):
    pass


class SolverstateHdf5(Trained, name="snap_iter_0.solverstate.h5", format="HDF5"):
    pass


class Resume(Trained, name="snap_iter_0.resume"):
    pass


class Mean(Kind):
    name = "mean.binaryproto"

    def whole(self) -> bytes:
        return (GOLDEN / "db" / "mean_gray_lmdb.binaryproto").read_bytes()

    def read(self, path: Path) -> object:
        from caffepy.data.pictures.data_transformer import read_mean

        return read_mean(str(path))


class DatumRecord(Kind):
    name = "datum"

    def whole(self) -> bytes:
        return from_image(pictures(1)[0], 3).SerializeToString()

    def read(self, path: Path) -> object:
        from caffepy.data.pictures.mean import pixels
        from caffepy.data.sources.datum import parse

        return pixels(parse(path.read_bytes(), b"key", "db"), b"key", "db")


class Picture(Kind):
    kind = "png"

    def __init_subclass__(cls, kind: str) -> None:
        cls.name, cls.kind = f"picture.{kind}", kind
        super().__init_subclass__()

    def whole(self) -> bytes:
        from caffepy.data.pictures.image import encode

        return encode(pictures(1)[0], self.kind)

    def read(self, path: Path) -> object:
        from caffepy.data.pictures.image import read

        return [read(str(path), channels) for channels in (3, 1, 0)]


class Png(Picture, kind="png"):
    pass


class Jpeg(Picture, kind="jpg"):
    pass


class Bmp(Picture, kind="bmp"):
    pass


class Tiff(Picture, kind="tiff"):
    pass


class Gif(Picture, kind="gif"):
    pass


class Webp(Picture, kind="webp"):
    pass


class Idx(Kind):
    name = "images-idx3-ubyte"

    def whole(self) -> bytes:
        return struct.pack(">4BIII", 0, 0, 8, 3, 5, 4, 3) + bytes(range(60))

    def read(self, path: Path) -> object:
        from caffepy.data.sources.idx import read_idx

        return read_idx(path, 3)


class IdxPacked(Idx):
    name = "images-idx3-ubyte.gz"

    def whole(self) -> bytes:
        return gzip.compress(super().whole(), mtime=0)


class Windows(Kind):
    name = "windows.txt"

    def whole(self) -> bytes:
        return (GOLDEN / "db" / "windows_many.txt").read_bytes()

    def read(self, path: Path) -> object:
        from caffepy.data.sources.windows import read_windows

        return read_windows(path)


class ImageList(Kind):
    name = "list.txt"

    def whole(self) -> bytes:
        return b"a.png 0\nfolder/b c.png 1\n\n/d.jpg -3\n"

    def read(self, path: Path) -> object:
        from caffepy.data.sources.lists import read_list

        return read_list(path)


class Cifar(Kind):
    name = "batch.bin"

    def whole(self) -> bytes:
        return bytes(i % 251 for i in range(3 * 3073))

    def read(self, path: Path) -> object:
        from caffepy.data.sources.cifar import read_batch

        return list(read_batch(path))


class Database(Kind):
    """What `data inspect` and `compute-image-mean` make of a database whose records are damaged."""

    name = "record"

    def whole(self) -> bytes:
        return from_image(pictures(1)[0], 3).SerializeToString()

    def write(self, folder: Path, content: bytes) -> Path:
        shutil.rmtree(folder / "db", ignore_errors=True)
        with create_database(folder / "db", "lmdb") as put:
            put(b"0", self.whole())
            put(b"1", content)
        return folder / "db"

    def read(self, path: Path) -> object:
        from caffepy.data.inspect import look, sheet
        from caffepy.data.pictures.mean import mean_image
        from caffepy.data.sources.lmdb import LmdbReader

        found = look(LmdbReader(path), keep=2)
        if found.pictures:
            sheet(found.pictures)
        return mean_image(LmdbReader(path))
