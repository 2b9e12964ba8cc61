"""The exponential moving average of the weights, saved beside them."""

from __future__ import annotations

from typing import Any

from caffepy.errors import FieldError
from caffepy.net import weights
from caffepy.net.blob import Array, Blob
from caffepy.solver import written
from caffepy.solver.events import Listener
from caffepy.solver.training import Training


class WeightAverage(Listener):
    """a = d a + (1 - d) w behind each update, d = min(`share`, (1 + t) / (10 + t)): early weights soon count little.

    A snapshot holds a as `<its name>_average.caffemodel`; `.resume` has it, too.
    """

    name = "average_weights"

    def __init__(self, share: float):
        if not 0 < share < 1:
            raise FieldError(f"average_weights must lie between 0 and 1, got {share:g}", "average_weights")
        self.share = share
        self.averages: list[Blob] = []
        self._restored: list[Any] = []

    def start(self, solver: Training) -> None:
        """Raises FieldError for tables whose steps cost what a batch touches: an average of all rows would not."""
        if solver.net.share is not None:
            raise FieldError("tables that are spread over processes have no average", "average_weights")
        if sparse := [param.blob.name for param in solver.net.learnable_params if param.blob.rows is not None]:
            raise FieldError(
                f"{sparse[0]} is updated by rows (sparse: true), and has no average",
                "average_weights",
                hint="Leave out average_weights, or sparse: true.",
            )
        self._begin(solver)

    def _begin(self, solver: Training) -> None:
        """With the weights as they are, or with what a snapshot has brought."""
        if not self.averages:
            for param in solver.net.learnable_params:
                average = Blob(param.blob.shape, solver.net.engine, param.blob.channels_last)
                average.flat()[...] = param.blob.flat()
                self.averages.append(average)
        for average, values in zip(self.averages, self._restored):
            average.fill(values)
        self._restored = []

    def update(self, solver: Training) -> None:
        d = min(self.share, (1 + solver.iter) / (10 + solver.iter))
        with solver.net.lock, solver.net.engine.computing():
            for average, param in zip(self.averages, solver.net.learnable_params):
                solver.net.engine.map(_towards, average.flat(), param.blob.flat(), d, out=average.flat())

    def save(self, solver: Training, name: str, hdf5: bool) -> None:
        """Write the averages of the snapshot `name`."""
        self._begin(solver)
        path = f"{name}_average.caffemodel{'.h5' if hdf5 else ''}"
        written.check_replaceable(path)
        blobs = [param.blob for param in solver.net.learnable_params]
        with solver.net.lock:
            own = [solver.net.engine.copy(blob.flat()) for blob in blobs]
            try:
                for blob, average in zip(blobs, self.averages):
                    blob.flat()[...] = average.flat()
                (weights.save_hdf5 if hdf5 else weights.save)(solver.net, path)
            finally:
                for blob, values in zip(blobs, own):
                    blob.flat()[...] = values

    def state(self) -> dict[str, Any]:
        return {"averages": self._restored or [average.host() for average in self.averages]}

    def set_state(self, state: dict[str, Any]) -> None:
        self._restored = list(state["averages"])


def _towards(xp: Any, average: Array, values: Array, d: float) -> Array:
    return d * average + (1 - d) * values
