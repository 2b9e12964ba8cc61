"""More kinds of file: definitions, ratings, tables, annotations and models of ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.campaign.kinds import NET, Hdf5, Kind, pictures


class Definition(Kind):
    """A net, built and run; what it names is not there."""

    name = "net.prototxt"

    def whole(self) -> bytes:
        return b"""name: "small"  # of every kind of value
layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "in" top: "conv" param { lr_mult: 1 } param { decay_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } bias_term: true } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" relu_param { negative_slope: 1e-1 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" include { phase: TEST not_stage: 'x' } }
"""

    def read(self, path: Path) -> object:
        from caffepy import passes
        from caffepy.net.net import Net
        from caffepy.proto.caffe_pb2 import TEST

        net = Net(path, TEST)
        return passes.of(net).forward()


class OldDefinition(Definition):
    """One of Caffe's second format, which is upgraded."""

    name = "old.prototxt"

    def whole(self) -> bytes:
        return b"""input: "in" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "in" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  convolution_param { num_output: 4 kernel_size: 3 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
"""


class SolverDefinition(Kind):
    """A solver, built and run for an iteration at most; it writes no snapshot."""

    name = "solver.prototxt"

    def whole(self) -> bytes:
        return f"""net_param {{ {NET} }} base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 3 momentum: 0.9
type: "Adam" weight_decay: 0.01 regularization_type: "L1" clip_gradients: 2 max_iter: 10 average_loss: 2 iter_size: 2
display: 1 random_seed: 3""".encode()

    def read(self, path: Path) -> object:
        from caffepy.solver import Solver

        return Solver(path).step(1)


class RatingsCsv(Kind):
    name = "ratings.csv"

    def whole(self) -> bytes:
        return 'user,item,rating,timestamp\n1,a,5,10\n1,"b,c",3.5,20\n2,a,4,30\nü,d,1,40\n3,b,2,50\n'.encode()

    def read(self, path: Path) -> object:
        from caffepy.recommend.convert import Options, convert

        options = Options(split="leave-last:1", skip_bad=len(path.read_bytes()) % 2 == 0)
        return convert(str(path), "", "tables", options)


class RatingsColons(RatingsCsv):
    name = "ratings.dat"

    def whole(self) -> bytes:
        return b"1::10::5::978300760\n1::20::3::978302109\n2::10::4::978301968\n2::30::3::978300275\n"


class RatingsTabs(RatingsCsv):
    name = "u.data"

    def whole(self) -> bytes:
        return b"196\t242\t3\t881250949\n196\t302\t3\t891717742\n22\t242\t1\t878887116\n244\t51\t2\t880606923\n"


class Items(Kind):
    """What is known of the items of ratings."""

    name = "items.csv"

    def prepare(self, folder: Path) -> None:
        (folder / "ratings.csv").write_bytes(b"user,item,rating\n1,1,5\n1,2,3\n2,1,4\n")

    def whole(self) -> bytes:
        return b"id,title,year,genres,kind\n1,Toy Story,1995,Comedy|Children,a\n2,GoldenEye,1995.5,Action,b\n"

    def read(self, path: Path) -> object:
        from caffepy.recommend.convert import Options, convert

        return convert("ratings.csv", "", "tables", Options(split="random:0.5", items=str(path)))


class TableText(Kind):
    name = "rows.csv"

    def whole(self) -> bytes:
        return b"age,town,income,label\n20,a,0.5,yes\n30,b,12,no\n40,a,7,yes\n50,,3,no\n"

    def read(self, path: Path) -> object:
        from caffepy.data.tables import convert, splits
        from caffepy.data.tables.columns import parse
        from caffepy.data.tables.csv import read

        specs = parse("age:bucket:2,town:category,income:log,label:label:yes")
        words = read(str(path), [spec.source for spec in specs])
        rows = splits.parts("50,50", len(words), 1)
        return convert.write("tables", convert.convert(words, specs, rows), rows)


class Table(Hdf5):
    """What TableData reads, in batches."""

    name = "t.h5"

    def whole(self) -> bytes:
        from tests.data.tables import small

        return Path(small.write("whole.h5")).read_bytes()

    def prepare(self, folder: Path) -> None:
        pass

    def read(self, path: Path) -> object:
        from caffepy import passes
        from caffepy.net.net import Net
        from caffepy.proto import text
        from caffepy.proto.caffe_pb2 import TRAIN, NetParameter

        definition = """layer { name: "t" type: "TableData" top: "user" top: "item" top: "genre" top: "label"
            table_data_param { source: "t.h5" batch_size: 4 shuffle: true negatives: 1 } }"""
        net = Net(text.parse(definition, NetParameter()), TRAIN)
        return passes.of(net).forward()


class AnnotatedRecord(Kind):
    """A record of SSD's databases."""

    name = "annotated"

    def whole(self) -> bytes:
        from caffepy.data.sources.datum import from_image
        from caffepy.proto.caffe_pb2 import AnnotatedDatum

        record = AnnotatedDatum(type=AnnotatedDatum.BBOX)
        record.datum.CopyFrom(from_image(pictures(1)[0], 3))
        for label in (1, 2):
            box = record.annotation_group.add(group_label=label).annotation.add(instance_id=0).bbox
            box.xmin, box.ymin, box.xmax, box.ymax = 0.1, 0.2, 0.5, 0.9
        return record.SerializeToString()

    def read(self, path: Path) -> object:
        from caffepy.data.pictures.mean import pixels
        from caffepy.data.sources.annotated import objects_in, parse

        record = parse(path.read_bytes(), b"key", "db")
        return objects_in(record), pixels(record.datum, b"key", "db")


class Onnx(Kind):
    """A model that `caffepy import` reads, compares with onnxruntime and writes."""

    name = "model.onnx"
    needs = "onnx"

    def whole(self) -> bytes:
        import onnx

        helper, random = onnx.helper, np.random.default_rng(1)
        constants = {
            "w": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
            "b": np.ones(4, np.float32),
            "shape": np.int64([0, -1]),
            "f": random.normal(size=(36, 5)).astype(np.float32),
        }
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], strides=[2, 2]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
            helper.make_node("Reshape", ["p", "shape"], ["q"]),
            helper.make_node("MatMul", ["q", "f"], ["m"]),
            helper.make_node("Softmax", ["m"], ["y"], axis=1),
        ]
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", 1, (2, 3, 10, 10))],
            [helper.make_tensor_value_info("y", 1, (2, 5))],
            [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
        )
        opset = [helper.make_opsetid("", 18)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()

    def read(self, path: Path) -> object:
        from caffepy.export.prototxt import import_model

        for name in ("out.prototxt", "out.caffemodel"):
            Path(name).unlink(missing_ok=True)
        return import_model(path, "out.prototxt", "out.caffemodel")
