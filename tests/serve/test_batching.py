"""Requests computed together: what joins, what waits, what is dropped."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from caffepy.errors import ConfigError
from caffepy.serve.api.tensorflow_serving_pb2 import BatchingParameters
from caffepy.serve.batching import Batcher, Limits
from caffepy.serve.options import read_text
from caffepy.serve.refusal import Refused
from caffepy.serve.signature import Tensor

OUT = (Tensor("y", "y", (-1, 2)),)


class Doubler:
    """Computes y = 2 x, and notes what it was given; `gate` holds it back."""

    def __init__(self):
        self.sizes: list[tuple[int, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, feeds, outputs):
        self.entered.set()
        assert self.gate.wait(10)
        self.sizes.append(feeds["x"].shape)
        if np.isnan(feeds["x"]).any():
            raise ConfigError("not a number")
        return {"y": feeds["x"] * 2}


def run(test, batched=True, **limits):
    """Run `test(batcher, doubler)` on a loop of its own."""

    async def main():
        doubler, seen = Doubler(), []
        batcher = Batcher(doubler, batched, Limits(**limits), "test", seen.append)
        try:
            await test(batcher, doubler)
        finally:
            doubler.gate.set()
            batcher.close()
            batcher.join()
        return seen

    return asyncio.run(main())


def submit(batcher, rows, deadline=None, width=2):
    x = np.array(rows, np.float32).reshape(-1, width)
    return batcher.submit({"x": x}, OUT, len(x), deadline)


async def busy(batcher, doubler):
    """Hold the thread at a first request."""
    doubler.gate.clear()
    first = submit(batcher, [0, 0])
    await asyncio.to_thread(doubler.entered.wait, 10)
    return first


def test_what_waits_is_computed_together_and_each_gets_its_own():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        works = [submit(batcher, [i, i]) for i in range(5)]
        doubler.gate.set()
        found = [await work.future for work in works]
        assert [result["y"].tolist() for result in found] == [[[2 * i, 2 * i]] for i in range(5)]
        await first.future
        assert doubler.sizes == [(1, 2), (5, 2)]

    run(test)


def test_a_lone_request_does_not_wait():
    async def test(batcher, doubler):
        began = time.monotonic()
        await submit(batcher, [1, 2]).future
        assert time.monotonic() - began < 0.5

    run(test)


def test_batch_timeout_waits_for_more():
    async def test(batcher, doubler):
        works = [submit(batcher, [1, 2])]
        await asyncio.sleep(0.05)
        works.append(submit(batcher, [3, 4]))
        await asyncio.gather(*(work.future for work in works))
        assert doubler.sizes == [(2, 2)]

    run(test, timeout=0.5, max_batch_size=2)


def test_no_batch_is_larger_than_may_be_but_one_request_is_split():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        works = [submit(batcher, np.arange(6)) for _ in range(3)]  # three items each
        large = submit(batcher, np.arange(20))
        doubler.gate.set()
        await asyncio.gather(first.future, *(work.future for work in works))
        assert (await large.future)["y"].ravel().tolist() == (2 * np.arange(20)).tolist()
        assert all(size[0] <= 4 for size in doubler.sizes)

    run(test, max_batch_size=4)


def test_allowed_sizes_are_padded_to():
    async def test(batcher, doubler):
        found = await submit(batcher, np.arange(6)).future
        assert found["y"].tolist() == [[0, 2], [4, 6], [8, 10]]
        assert doubler.sizes == [(4, 2)]

    run(test, max_batch_size=8, allowed=(1, 4, 8))


def test_other_shapes_are_other_batches_unless_padded():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        works = [submit(batcher, [1, 2]), submit(batcher, [1, 2, 3], width=3), submit(batcher, [3, 4])]
        doubler.gate.set()
        found = await asyncio.gather(first.future, *(work.future for work in works))
        assert found[2]["y"].ravel()[:3].tolist() == [2, 4, 6]
        assert doubler.sizes[1:] == ([(3, 3)] if batcher.limits.pad else [(2, 2), (1, 3)])

    run(test)
    run(test, pad=True)


def test_a_full_queue_refuses_and_the_rest_is_answered():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        works = [submit(batcher, [1, 2]) for _ in range(3)]
        with pytest.raises(Refused, match="the queue is full: 3 items wait") as caught:
            submit(batcher, [1, 2])
        assert (caught.value.code, caught.value.status) == ("RESOURCE_EXHAUSTED", 429)
        doubler.gate.set()
        await asyncio.gather(first.future, *(work.future for work in works))
        await submit(batcher, [1, 2]).future

    run(test, max_enqueued=3)


def test_what_is_too_late_or_cancelled_is_not_computed():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        late = submit(batcher, [1, 2], deadline=time.monotonic() + 0.01)
        cancelled = submit(batcher, [1, 2])
        cancelled.future.cancel()
        await asyncio.sleep(0.05)
        doubler.gate.set()
        with pytest.raises(Refused, match="the deadline passed in the queue"):
            await late.future
        await first.future
        await submit(batcher, [5, 6]).future
        assert doubler.sizes == [(1, 2), (1, 2)]
        assert batcher.waiting == 0

    run(test)


def test_one_bad_request_does_not_spoil_the_others():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        good, bad = submit(batcher, [1, 2]), submit(batcher, [np.nan, 2])
        doubler.gate.set()
        assert (await good.future)["y"].tolist() == [[2, 4]]
        with pytest.raises(Refused, match="not a number"):
            await bad.future
        await first.future

    run(test)


def test_models_without_batches_compute_one_by_one():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        works = [submit(batcher, [1, 2]) for _ in range(3)]
        doubler.gate.set()
        await asyncio.gather(first.future, *(work.future for work in works))
        assert doubler.sizes == [(1, 2)] * 4

    run(test, batched=False)


def test_what_is_counted():
    async def test(batcher, doubler):
        first = await busy(batcher, doubler)
        works = [submit(batcher, [1, 2]) for _ in range(3)]
        doubler.gate.set()
        await asyncio.gather(first.future, *(work.future for work in works))
        await asyncio.sleep(0.01)

    seen = run(test)
    assert [works[0].batch for works in seen] == [1, 3]
    assert all(work.enqueued <= work.started <= work.computed for works in seen for work in works)


def test_after_closing_nothing_is_taken():
    async def test(batcher, doubler):
        work = submit(batcher, [1, 2])
        batcher.close()
        await work.future
        with pytest.raises(Refused, match="the version is being unloaded"):
            submit(batcher, [1, 2])

    run(test)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1, got 0"),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be at least 1, got -1"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [1, 4]",
         "allowed_batch_sizes must rise and end with max_batch_size, 8; they are [1, 4]"),
        ("batch_timeout_micros { value: -5 }", "batch_timeout_micros must be at least 0, got -5"),
    ],
)  # fmt: skip
def test_limits_that_cannot_be(text, said):
    with pytest.raises(ConfigError) as caught:
        Limits.of(read_text(text, BatchingParameters()))
    assert str(caught.value) == said


def test_limits_of_a_file():
    text = """max_batch_size { value: 16 } batch_timeout_micros { value: 2000 } max_enqueued_batches { value: 3 }
              num_batch_threads { value: 2 } allowed_batch_sizes: [4, 16] pad_variable_length_inputs: true"""
    assert Limits.of(read_text(text, BatchingParameters())) == Limits(16, 0.002, 48, 2, (4, 16), True)
