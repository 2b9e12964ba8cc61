"""Requests of any protocol to a model, and what is counted of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from caffepy.errors import CaffeError
from caffepy.serve.catalog import Catalog
from caffepy.serve.control import Control
from caffepy.serve.engines import cores
from caffepy.serve.metrics import Metrics
from caffepy.serve.model import LoadedModel
from caffepy.serve.recommender import ids_of
from caffepy.serve.refusal import Refused, as_refusal, invalid
from caffepy.serve.served import Version
from caffepy.serve.signature import Arrays, Tensor

log = logging.getLogger("caffepy.serve")

LONGEST_ID = 200
LARGEST = 1 << 28
"""Values that an input may have, whatever a message says about its shape."""


class Asked(NamedTuple):
    """Which model is asked, and how."""

    name: str
    version: int | None = None
    label: str = ""
    signature: str = ""
    api: str = "Predict"
    entrypoint: str = "GRPC"
    session: str = ""
    """The session that the request belongs to."""


class Service:
    """Answers from the models of a catalog."""

    def __init__(self, catalog: Catalog, metrics: Metrics, control: Control):
        self.catalog, self.metrics, self.control = catalog, metrics, control
        self.draining = False
        """Whether new requests are refused: they are for another replica."""
        self._pictures = ThreadPoolExecutor(cores(), "pictures")

    async def infer(
        self, asked: Asked, given: Mapping[str, np.ndarray], outputs: Iterable[str], deadline: float | None
    ) -> tuple[Version, Arrays]:
        """The outputs of these names (all where there are none), and the version that made them.

        An input is an array of numbers, or of bytes (dtype object): a picture an item. Raises Refused.
        """
        began, status, key = time.monotonic(), "OK", ("", "", asked.signature)
        try:
            if self.draining:
                raise Refused("UNAVAILABLE", "the server is shutting down")
            version = self.catalog.pick(asked.name, asked.version, asked.label)
            key = version.model_name, str(version.number), ""
            assert version.model is not None and version.batcher is not None
            version.active += 1
            try:
                version.model.signature.check_name(asked.signature)
                key = version.model_name, key[1], asked.signature or "serving_default"
                return version, await self._compute(version, given, outputs, deadline, asked.session)
            finally:
                version.active -= 1
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except Exception as error:
            refused = as_refusal(error)
            if not isinstance(error, CaffeError):
                log.exception("A request failed")
            status = refused.code
            raise refused from None
        finally:
            self.metrics.request(key, asked.api, asked.entrypoint, status, time.monotonic() - began)

    async def _compute(
        self,
        version: Version,
        given: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None,
        session: str,
    ) -> Arrays:
        model, batcher = version.model, version.batcher
        assert model is not None and batcher is not None
        if session:
            return await self._in_session(model, session, given, outputs, deadline)
        if model.words or any(values.dtype == object for values in given.values()):
            loop = asyncio.get_running_loop()
            given = await loop.run_in_executor(self._pictures, decoded, model, given)
        feeds = model.signature.feeds(given)
        work = batcher.submit(feeds, model.signature.wanted(outputs), model.signature.items(feeds), deadline)
        if deadline is None:
            return await work.future
        timer = asyncio.get_running_loop().call_later(max(0, deadline - time.monotonic()), _too_late, work.future)
        try:
            return await work.future
        finally:
            timer.cancel()

    async def _in_session(
        self,
        model: LoadedModel,
        session: str,
        given: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None,
    ) -> Arrays:
        sessions = model.sessions
        if sessions is None:
            raise invalid("the model keeps no state between requests", "Leave out session_id.")
        wanted = model.signature.wanted(outputs)
        blobs = list(dict.fromkeys(tensor.blob for tensor in wanted))
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pictures, sessions.run, session, model.signature, given, blobs)
        try:
            found = await asyncio.wait_for(work, None if deadline is None else max(0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise Refused("DEADLINE_EXCEEDED", "the deadline passed before the model had computed") from None
        return {tensor.name: found[tensor.blob] for tensor in wanted}

    async def classify(
        self, asked: Asked, examples: Sequence[Mapping[str, np.ndarray]], deadline: float | None
    ) -> tuple[Version, list[list[tuple[str, float]]]]:
        """Label and score of the best classes of each example, by the first output."""
        version, scores = await self._scores(asked, examples, deadline)
        assert version.model is not None
        return version, [ranked(version.model, row) for row in scores.reshape(len(scores), -1)]

    async def regress(
        self, asked: Asked, examples: Sequence[Mapping[str, np.ndarray]], deadline: float | None
    ) -> tuple[Version, list[float]]:
        """One number for each example: the first output."""
        version, values = await self._scores(asked, examples, deadline)
        if values.size != len(values):
            raise invalid(f"regress needs an output of one number an item, this one has {values.shape[1:]}")
        return version, values.ravel().tolist()

    async def _scores(
        self, asked: Asked, examples: Sequence[Mapping[str, np.ndarray]], deadline: float | None
    ) -> tuple[Version, np.ndarray]:
        if not examples:
            raise invalid("Input is empty.")
        model = self.catalog.pick(asked.name, asked.version, asked.label).model
        assert model is not None
        given = stacked(model, examples)
        name = model.signature.outputs[0].name
        version, outputs = await self.infer(asked, given, [name], deadline)
        values = outputs[name]
        if values.shape[:1] != (len(examples),):
            raise invalid(f'the output "{name}" has shape {values.shape} for {len(examples)} examples')
        return version, values

    def close(self) -> None:
        self._pictures.shutdown(wait=False, cancel_futures=True)


def session_of(value: Any) -> str:
    """The id of a session in a request: a text, or none."""
    if not isinstance(value, str) or len(value) > LONGEST_ID:
        raise invalid(f"session_id is a text of at most {LONGEST_ID} characters")
    return value


def _too_late(future: asyncio.Future) -> None:
    if not future.done():
        future.set_exception(Refused("DEADLINE_EXCEEDED", "the deadline passed before the model had computed"))


def decoded(model: LoadedModel, given: Mapping[str, np.ndarray]) -> Arrays:
    """The inputs with pictures decoded and transformed as the version says, and words as their ids."""
    out = {}
    for name, values in given.items():
        if name in model.words:
            values = ids_of(name, model.words[name], values)
        elif name in model.texts and values.dtype == object:
            values = model.texts[name](name, values)
        elif values.dtype == object:
            transform = model.pictures.get(name)
            if transform is None:
                known = ", ".join(model.pictures) or "none"
                raise invalid(f'the input "{name}" takes numbers, not bytes', f"Inputs that take pictures: {known}.")
            pictures = [transform(data) for data in values.ravel()]
            values = np.stack(pictures) if pictures else np.zeros((0,), np.float32)
        out[name] = values
    return out


def stacked(model: LoadedModel, examples: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
    """One array an input, of flat features by name; of a model with one input every name will do."""
    inputs = model.signature.inputs
    out = {}
    for tensor in inputs:
        rows = [_feature(tensor, example, alone=len(inputs) == 1) for example in examples]
        if tensor.name in model.words:
            if any(row.size != 1 for row in rows):
                raise invalid(f'examples have one "{tensor.name}" each')
            out[tensor.name] = np.array([*(row.ravel()[0] for row in rows), None], object)[:-1]
            continue
        if any(row.dtype == object for row in rows):
            if not all(row.dtype == object and row.size == 1 for row in rows):
                raise invalid(f'examples have one picture each for "{tensor.name}", or numbers all of them')
            out[tensor.name] = np.array([row.ravel()[0] for row in rows] + [None], object)[:-1]
            continue
        shape = tensor.shape[1:]
        if -1 in shape or any(row.size != np.prod(shape) for row in rows):
            raise invalid(f'examples have {rows[0].size} numbers for "{tensor.name}" {shape}')
        out[tensor.name] = np.stack([row.reshape(shape) for row in rows])
    return out


def _feature(tensor: Tensor, example: Mapping[str, np.ndarray], alone: bool) -> np.ndarray:
    if tensor.name in example:
        return example[tensor.name]
    if alone and len(example) == 1:
        return next(iter(example.values()))
    raise invalid(f'an example has no feature "{tensor.name}"', f"It has: {', '.join(example) or 'none'}.")


def ranked(model: LoadedModel, scores: np.ndarray) -> list[tuple[str, float]]:
    """The best classes: label, or index where there are no labels, and score."""
    best = np.argsort(-scores.astype(float), kind="stable")[: model.settings.top_k or None]
    return [(label_of(model, int(i)), float(scores[i])) for i in best]


def label_of(model: LoadedModel, i: int) -> str:
    return model.labels[i] if i < len(model.labels) else str(i)
