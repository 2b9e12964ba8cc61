"""A small table with a column of every kind."""

import numpy as np

from caffepy.data.tables.table import Column
from caffepy.data.tables.writer import encode_lists, write_table

USER, ITEM = [0, 1, 0, 2, 1, 0], [0, 0, 1, 2, 3, 3]
RATING = [5, 4, 3, 2.5, 1, 2]


def write(path):
    words, genres = encode_lists([["b", "a"], [], ["a"], ["c", "b", "a"]], "genre")
    columns = {
        "user": Column(np.array(USER, np.int32), 3, "user"),
        "item": Column(np.array(ITEM, np.int32), 4, "item"),
        "rating": Column(np.array(RATING, np.float32)),
        "timestamp": Column(np.array([964982703] * 6)),
    }
    vocabularies = {"user": ["u7", "u8", "u9"], "item": ["10", "20", "30", "40"], "genre": words}
    features = {"item": {"genre": genres, "title": Column(np.array(["A", "B", "C", "Ü"], object))}}
    write_table(path, columns, vocabularies, features)
    return str(path)
