"""The log's lines of outputs: numbers are counted through, losses with their weight, as Caffe prints them."""

from __future__ import annotations

import numpy as np

from caffepy.solver.display import number_lines, output_lines


def test_one_number():
    assert list(number_lines("accuracy", 0.0, np.float32(0.75))) == ["accuracy = 0.75"]
    assert list(number_lines("loss", 2.0, np.array([1.5]))) == ["loss = 1.5 (* 2 = 3 loss)"]


def test_several_numbers_are_counted_on_over_all_outputs():
    outputs = [("per_class", 0.0, np.array([[0.5, 0.25]])), ("m", 0.0, {"ndcg": 1 / 3}), ("loss", 1.0, 1e-7)]
    assert list(output_lines("Test", outputs)) == [
        "    Test net output #0: per_class = 0.5",
        "    Test net output #1: per_class = 0.25",
        "    Test net output #2: m/ndcg = 0.333333",
        "    Test net output #3: loss = 1e-07 (* 1 = 1e-07 loss)",
    ]
