"""Arrays for a net's inputs from files: HDF5, tables, CSV."""

from __future__ import annotations

import math

import numpy as np

from caffepy.arrays.inputs import check_inputs
from caffepy.data.tables import csv
from caffepy.data.tables.table import open_table
from caffepy.errors import DataError, did_you_mean
from caffepy.net.net import Net

SUFFIXES = (".h5", ".hdf5", ".csv", ".csv.gz")


def arrays_in(path: str, net: Net) -> dict[str, np.ndarray]:
    """The data sets of an HDF5 file, or the columns of a table, that are called as the net's inputs.

    Of a CSV file also all columns together, for a net of one input of so many values. Raises DataError for what is
    missing, or no number.
    """
    check_inputs(net)
    if path.endswith((".csv", ".csv.gz")):
        return _of_csv(path, net)
    table = open_table(path)
    found = {}
    for name in net.inputs:
        if name not in table.columns:
            hint = did_you_mean(name, table.columns) or f"It holds {', '.join(table.columns)}."
            raise DataError(f'there is nothing for the net\'s input "{name}"', where=path, hint=hint)
        found[name] = np.asarray(table[name], np.float32)
    return found


def _of_csv(path: str, net: Net) -> dict[str, np.ndarray]:
    width = {name: math.prod(net.engine_blobs[name].shape[1:]) for name in net.inputs}
    names = list(net.inputs)
    if len(names) == 1 and width[names[0]] > 1:
        names = [f"{names[0]}_{i}" for i in range(width[names[0]])]
    words = csv.read(path, names)
    columns = [_numbers(words, name) for name in (names if set(names) <= set(words.names) else words.names)]
    if len(net.inputs) == 1:
        values, shape = np.stack(columns, axis=1), net.engine_blobs[net.inputs[0]].shape[1:]
        return {net.inputs[0]: values.reshape(-1, *shape) if len(columns) == math.prod(shape) else values}
    return dict(zip(names, columns))


def _numbers(words: csv.Words, name: str) -> np.ndarray:
    try:
        return words.columns[name].astype(np.float32)
    except ValueError:
        for row, word in enumerate(words.columns[name]):
            try:
                float(word)
            except ValueError:
                raise DataError(f'"{word}" in the column {name} is no number', where=words.where(row)) from None
        raise
