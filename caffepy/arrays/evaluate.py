"""What a net's outputs come to over arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from caffepy.arrays.inputs import batch_length, fill, inference_net, input_arrays, length_of, sizes_kept
from caffepy.net.net import Net
from caffepy.solver import testing
from caffepy.solver.testing import Results

Logs = dict[str, float]


def evaluate(net: Net, x: Any, y: Any = None, batch_size: int | None = None) -> Logs:
    """The mean weighted loss, as "loss", and what every output that is one value a batch comes to, such as accuracy.

        print(net.evaluate(test_images, test_labels)["accuracy"])

    `x` and `y` are as in `fit`. The net computes in the TEST phase, whatever its own. A batch counts as many times as
    it has items.
    """
    runner = inference_net(net)
    arrays = input_arrays(runner, x, y)
    size, length = batch_length(runner, batch_size), length_of(arrays)

    def batches() -> Iterator[float]:
        for start in range(0, length, size):
            batch = {name: values[start : start + size] for name, values in arrays.items()}
            fill(runner, batch)
            yield length_of(batch)

    with sizes_kept(runner):
        return logs_of(testing.test(runner, batches(), single=True))


def logs_of(results: Results) -> Logs:
    """A number for each output, and the loss."""
    return {**results.scores(), "loss": results.loss}
