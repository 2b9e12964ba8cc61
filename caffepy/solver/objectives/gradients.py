"""The gradients of several losses for the parameters that they share, kept apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from caffepy.net.blob import Array
from caffepy.net.net import Net
from caffepy.net.rows import Rows


class TaskGradients:
    """Of R losses the gradients for the parameters `numbers` of a net: a matrix (R, P), rows for sparse tables.

    `take(r)` moves what is in the parameters' `diff` to row r, adding to it; `put` writes a weighted sum back.
    """

    def __init__(self, net: Net, numbers: Sequence[int], count: int):
        self.net, self.xp, self.count = net, net.engine.xp, count
        blobs = {number: net.learnable_params[number].blob for number in numbers}
        self.tables = {number: blob for number, blob in blobs.items() if blob.rows is not None}
        self.dense = {number: blob for number, blob in blobs.items() if blob.rows is None}
        self.places: dict[int, slice] = {}
        end = 0
        for number, blob in self.dense.items():
            self.places[number] = slice(end, end + blob.count)
            end += blob.count
        self.matrix = net.engine.zeros(count * end).reshape((count, end))
        self._cleared: set[int] = set()
        """Losses whose gradient is zero, whatever the matrix holds."""
        self.rows = {number: [Rows(net.engine, b.shape) for _ in range(count)] for number, b in self.tables.items()}

    def clear(self) -> None:
        """Set all gradients to zero, those of the matrix when they are next looked at."""
        self._cleared = set(range(self.count))
        for rows in self.all_rows():
            rows.clear()

    def all_rows(self) -> Iterator[Rows]:
        """The gradients of tables, each loss's."""
        for of_losses in self.rows.values():
            yield from of_losses

    def take(self, r: int) -> None:
        """Add the parameters' gradients to those of loss r and leave zeros."""
        for number, blob in self.dense.items():
            if r in self._cleared:
                self.matrix[r, self.places[number]] = blob.flat("diff")
            else:
                self.matrix[r, self.places[number]] += blob.flat("diff")
            blob.clear_diff()
        self._cleared.discard(r)
        for number, blob in self.tables.items():
            _add(self.rows[number][r], blob.rows, 1.0)
            blob.clear_diff()

    def put(self, weights: np.ndarray) -> None:
        """Let the parameters' gradients be the sum of weight * gradient (R,)."""
        self._clear_rest()
        factors = self.net.engine.asarray(np.asarray(weights, np.float32))
        total = self.xp.matmul(factors, self.matrix)
        for number, blob in self.dense.items():
            blob.flat("diff")[...] = total[self.places[number]]
        for number, blob in self.tables.items():
            blob.clear_diff()
            for weight, rows in zip(weights, self.rows[number]):
                _add(blob.rows, rows, float(weight))

    def gram(self, numbers: Collection[int] | None = None) -> np.ndarray:
        """The inner products (R, R) of the gradients for some of the parameters, by default for all."""
        self._clear_rest()
        total = np.zeros((self.count, self.count))
        for part in self._products(numbers):
            total += np.asarray(self.net.engine.to_host(part), float)
        return total

    def _clear_rest(self) -> None:
        for r in self._cleared:
            self.matrix[r] = 0
        self._cleared = set()

    def _products(self, numbers: Collection[int] | None) -> Iterator[Array]:
        wanted = [number for number in self.places if numbers is None or number in numbers]
        if len(wanted) == len(self.places):
            yield self.xp.matmul(self.matrix, self.matrix.T)
        else:
            for number in wanted:
                part = self.matrix[:, self.places[number]]
                yield self.xp.matmul(part, part.T)
        for number in self.tables:
            if numbers is None or number in numbers:
                yield from self._products_of_rows(self.rows[number])

    def _products_of_rows(self, of_losses: Sequence[Rows]) -> Iterator[Array]:
        """The product of a table's gradients, each loss's rows written side by side, so that equal ones meet."""
        given = [(r, *part) for r, rows in enumerate(of_losses) if (part := rows.merged()) is not None]
        if not given:
            return
        width = given[0][2].shape[1]
        spread = []
        for r, _, values in given:
            wide = self.net.engine.zeros(values.shape[0] * self.count * width)
            wide = wide.reshape((values.shape[0], self.count, width))
            wide[:, r] = values
            spread.append(wide.reshape((values.shape[0], self.count * width)))
        _, met = self.net.engine.merge_rows(self.xp.concat([g[1] for g in given]), self.xp.concat(spread))
        columns = self.xp.permute_dims(met.reshape((met.shape[0], self.count, width)), (1, 0, 2))
        columns = columns.reshape((self.count, met.shape[0] * width))
        yield self.xp.matmul(columns, columns.T)


def _add(to: Rows | None, rows: Rows | None, weight: float) -> None:
    """Add weight * rows, where there are some."""
    found = rows.merged() if rows is not None else None
    if to is not None and found is not None:
        to.add(found[0], weight * found[1])
