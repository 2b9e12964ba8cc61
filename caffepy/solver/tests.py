"""The tests of a solver: its test nets, on the weights that it trains."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from caffepy import rng
from caffepy.solver import testing
from caffepy.solver.display import output_lines
from caffepy.solver.events import Action
from caffepy.solver.testing import Results, Scores
from caffepy.solver.training import Training

log = logging.getLogger(__name__)


def run_all(solver: Training) -> Scores:
    """The scores of all test nets, an earlier net's before a later one's; none where a stop was asked for."""
    scores: Scores = {}
    for i in range(len(solver.test_nets)):
        results = run(solver, i)
        if results is None:
            return {}
        scores = {**results.scores(), **scores}
    return scores


def run(solver: Training, i: int) -> Results | None:
    """What the outputs of test net `i` come to over its `test_iter` batches; None where a stop was asked for."""
    log.info("Iteration %d, Testing net (#%d)", solver.iter, i)
    net, count = solver.test_nets[i], solver.param.test_iter[i]
    net.share_trained_layers_with(solver.net)
    solver.testing = True
    try:
        with rng.use(solver.random):
            single = any(layer.param.fold_param.held_out for layer in net.layers)  # else batches are of one size
            results = testing.test(net, _batches(solver, count), single)
    finally:
        solver.testing = False
    if results.batches < count:
        log.info("Test interrupted.")
        return None
    if solver.param.test_compute_loss and count > 0:
        log.info("Test loss: %.6g", results.loss)
    for line in output_lines("Test", results.outputs):
        log.info(line)
    return results


def _batches(solver: Training, count: int) -> Iterator[float]:
    """So many batches of weight 1, fewer where a stop is asked for. A snapshot waits only for other processes."""
    for _ in range(count):
        solver.announce("batch")
        asked = solver.requests.take_in_test()
        if Action.SNAPSHOT in asked:
            solver.snapshot_if_possible()
        if Action.STOP in asked:
            solver.stop()
            return
        yield 1.0
