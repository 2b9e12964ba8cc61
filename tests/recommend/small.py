"""A small table of ratings with structure, and layers and nets over it."""

import numpy as np

from caffepy import passes, rng
from caffepy.data.tables.table import Column
from caffepy.data.tables.writer import write_table
from caffepy.net.net import Net
from caffepy.proto import caffe_pb2, text

USERS, ITEMS = 30, 20


def write(folder, seed=0):
    """train.h5 and test.h5; the last user and the last item have no ratings in train."""
    random = np.random.default_rng(seed)
    taste, kind = random.standard_normal((USERS, 2)), random.standard_normal((ITEMS, 2))
    scores = (
        3 + random.standard_normal(USERS)[:, None] * 0.5 + taste @ kind.T + random.standard_normal((USERS, ITEMS)) / 4
    )
    rating = np.clip(np.round(scores), 1, 5)
    user, item = np.nonzero(random.random((USERS, ITEMS)) < 0.6)
    test = random.random(len(user)) < 0.2
    test |= (user == USERS - 1) | (item == ITEMS - 1)
    for name, rows in (("train.h5", ~test), ("test.h5", test)):
        columns = {
            "user": Column(user[rows].astype(np.int32), USERS, "user"),
            "item": Column(item[rows].astype(np.int32), ITEMS, "item"),
            "rating": Column(rating[user, item][rows].astype(np.float32)),
            "day": Column(random.integers(40, size=rows.sum()).astype(np.int32), 40),
        }
        words = {"user": [f"u{i}" for i in range(USERS)], "item": [f"i{i}" for i in range(ITEMS)]}
        titles = {"item": {"title": Column(np.array([f"Title {i}" for i in range(ITEMS)], object))}}
        write_table(folder / name, columns, words, titles)


def nets(folder, layer, bottoms="user item", seed=1):
    """The TRAIN and the TEST net of one model layer, with shared weights."""
    tops = "".join(f'top: "{name}" ' for name in dict.fromkeys([*bottoms.split(), "rating"]))
    names = "".join(f'bottom: "{name}" ' for name in bottoms.split())
    rng.seed(seed)
    train = folder / "train.h5"
    built = []
    for phase, file in ((caffe_pb2.TRAIN, "train.h5"), (caffe_pb2.TEST, "test.h5")):
        definition = (
            f'layer {{ name: "d" type: "TableData" {tops} table_data_param {{ source: "{folder / file}" }} }}'
            f'layer {{ name: "m" {names} top: "prediction" ratings_param {{ source: "{train}" }} {layer} }}'
            'layer { name: "rmse" type: "RMSE" bottom: "prediction" bottom: "rating" top: "rmse" }'
        )
        built.append(Net(text.parse(definition, caffe_pb2.NetParameter()), phase))
    built[1].share_trained_layers_with(built[0])
    return built[0], built[1]


def run(net):
    passes.of(net).forward()
    return {name: np.array(blob.data) for name, blob in net.engine_blobs.items()}
