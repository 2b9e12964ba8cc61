"""MultiTask: a solver's backward passes, one for each task, and the gradient that is made of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from caffepy import passes, rng
from caffepy.errors import FieldError, did_you_mean
from caffepy.layers.batches import BatchLayer
from caffepy.net.blob import Array
from caffepy.net.build import LearnableParam
from caffepy.net.net import Net
from caffepy.net.rows import Rows
from caffepy.proto.caffe_pb2 import MultiTaskParameter, SolverParameter
from caffepy.solver import divergence, policies
from caffepy.solver.events import Listener
from caffepy.solver.objectives import shared
from caffepy.solver.objectives.base import Seen, Tasks, find, name_of
from caffepy.solver.objectives.gradients import TaskGradients
from caffepy.solver.training import Training

log = logging.getLogger(__name__)


class MultiTask(Listener):
    """What `multi_task` in a solver's definition asks for, at work on its net.

    Of every pass `backward` goes back from each task's loss. Parameters that one task alone reaches keep their own
    gradient; for the shared ones the gradients stay apart until the iteration's `gradients` event, when the method
    gives them weights and their sum takes their place. Clipping and decay come behind that, once. Losses of the net
    that are no task (a penalty) are added as they are.
    Raises FieldError for tasks that are no losses and layers that are not shared.
    """

    name = "multi_task"

    def __init__(self, solver: SolverParameter, net: Net):
        self.p, self.net = MultiTaskParameter(), net
        self.p.CopyFrom(solver.multi_task)
        self.names, self.others = self._losses()
        self.numbers = shared.shared(net, self.names)
        self.layers = shared.layers_of(net, self.numbers)
        """The layers with shared parameters, and the numbers of these."""
        if not self.layers:
            raise FieldError(
                f"the losses {_listed(self.names)} share no parameter",
                "multi_task",
                hint="multi_task is for layers that more than one loss reaches; without any, leave it out.",
            )
        self._weigh_losses()
        self.gradients_of_tasks = TaskGradients(net, self.numbers, len(self.names) + bool(self.others))
        self.iter_size = solver.iter_size
        self._by_epochs = self.p.method == MultiTaskParameter.DWA and not self.p.dwa.period
        self._count_epoch()
        seed = solver.random_seed if solver.random_seed >= 0 else rng.draw()
        tasks = Tasks(self.names, [_maker(net, name).regression for name in self.names])
        self.objective = find(self.p)(self.p, tasks, solver, np.random.default_rng(seed))
        self.layer = self._layer(self.objective.layer) if self.objective.needs_layer else ""
        self._losses_seen = net.engine.zeros(len(self.names))
        """Sums over the passes of the iteration."""
        self._passes = 0
        self.seen: Seen | None = None
        """What the last iteration brought."""
        self.weights = np.ones(len(self.names))
        """And the weights that the method made of it."""

    def _losses(self) -> tuple[list[str], list[str]]:
        """The net's losses that are tasks, in the order of the definition, and all others."""
        known = [name for name, weight in self.net.blob_loss_weights.items() if weight]
        names = [task.loss for task in self.p.task] or known
        for i, name in enumerate(names):
            field = f"multi_task.task[{i}].loss" if i else "multi_task.task.loss"
            if name not in known and name in self.net.blob_loss_weights and _maker(self.net, name).param.loss_weight:
                hint = "Give it another one, or leave the task out."
                raise FieldError(f'multi_task: the loss "{name}" has loss_weight: 0 in the net', field, hint=hint)
            if name not in known:
                hint = did_you_mean(name, known) or f"Its losses are: {', '.join(known) or 'none'}."
                raise FieldError(f'multi_task: the net has no loss "{name}"', field, hint=hint)
            if name in names[:i]:
                raise FieldError(f'multi_task: the loss "{name}" is named twice', field, hint="Name each loss once.")
        for i, task in enumerate(self.p.task):
            if not 0 < task.weight < np.inf:
                raise FieldError(
                    f'multi_task: the weight of "{task.loss}" must be positive, got {task.weight:g}',
                    f"multi_task.task[{i}].weight" if i else "multi_task.task.weight",
                    hint="A loss of the net that is not to be trained has loss_weight: 0 there, and is no task.",
                )
        if len(names) < 2:
            raise FieldError(
                f"multi_task needs two losses or more, {_listed(names) if names else 'none'} is there",
                "multi_task",
                hint="Give each task a loss layer, or remove multi_task.",
            )
        return names, [name for name in known if name not in names]

    def _weigh_losses(self) -> None:
        """Multiply the weights of the losses in the net by those of the tasks: so all that follows has them."""
        for name, task in zip(self.names, self.p.task):
            for node in self.net.nodes:
                if name in node.top_names:
                    i = node.top_names.index(name)
                    node.layer.loss_weights[i] *= task.weight
                    node.top[i].diff[...] = node.layer.loss_weights[i]
            self.net.blob_loss_weights[name] *= task.weight

    def _layer(self, name: str) -> str:
        """The shared layer of this name; without one the last that all tasks reach, or else the last."""
        if name and name not in self.layers:
            what = "is not shared" if name in self.net.layer_dict else "is no layer of the net"
            hint = did_you_mean(name, self.layers) or f"The losses share {_listed(self.layers)}."
            raise FieldError(f'gradnorm.layer "{name}" {what}', "multi_task.gradnorm.layer", hint=hint)
        if name:
            return name
        reached = [shared.reached(self.net, loss) for loss in self.names]
        common = [layer for layer, numbers in self.layers.items() if all(set(numbers) <= r for r in reached)]
        return [*self.layers, *common][-1]

    def _count_epoch(self) -> None:
        if self._by_epochs:
            self.p.dwa.period = epoch(self.net, self.iter_size)

    # What the solver calls

    def start(self, solver: Training) -> None:
        self._count_epoch()  # again: several processes have shared the records since

    def backward(self) -> None:
        """Go back from each task, behind a forward pass, and add what it gives to what is there."""
        for r, losses in enumerate(self._parts()):
            passes.of(self.net).backward(losses=losses)
            self.gradients_of_tasks.take(r)
        for k, name in enumerate(self.names):
            blob = self.net.engine_blobs[name]
            self._losses_seen[k] += self.net.engine.xp.sum(blob.data * blob.diff)
        self._passes += 1

    def _parts(self) -> Iterator[Sequence[str]]:
        """Each task's loss alone, then all that are no tasks."""
        yield from ([name] for name in self.names)
        if self.others:
            yield self.others

    def batch(self, solver: Training) -> None:
        if not solver.testing:
            self.gradients_of_tasks.clear()
            self._losses_seen[...], self._passes = 0, 0

    def gradients(self, solver: Training) -> None:
        """Put the weighted sum of the tasks' gradients in the place of the shared parameters' gradient."""
        self.seen = self._look(solver)
        divergence.check_tasks(solver, self.names, self.seen.losses, np.diag(self.seen.gram))
        self.weights = self.objective.weights(self.seen)
        others = [1.0] * bool(self.others)
        self.gradients_of_tasks.put(np.append(self.weights, others))
        if self.p.report and solver.iter % self.p.report == 0:
            for line in self.report():
                log.info("Iteration %d, %s", solver.iter, line)

    def gram(self, layer: str = "") -> np.ndarray:
        """The inner products (K, K) of the tasks' gradients for one layer, by default for all shared parameters."""
        k, found = len(self.names), self.gradients_of_tasks.gram(self.layers[layer] if layer else None)
        return found[:k, :k] / max(1, self._passes) ** 2

    def _look(self, solver: Training) -> Seen:
        losses = np.asarray(self.net.engine.to_host(self._losses_seen), float) / max(1, self._passes)
        gram = self.gram()
        layer = self.gram(self.layer) if self.layer else gram
        step = policies.next_step(solver.param, solver.iter, solver.current_step)
        rate = policies.learning_rate(solver.param, solver.iter, step)
        return Seen(losses, gram, layer, rate, solver.iter + 1)

    # What several processes have in common

    def seed(self, seed: int) -> None:
        """Let random orders follow from this seed, the same in all processes."""
        self.objective.random.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def of_one_task(self) -> Iterator[LearnableParam]:
        """The parameters that are not shared."""
        return (param for i, param in enumerate(self.net.learnable_params) if i not in set(self.numbers))

    def arrays(self) -> list[Array]:
        """What is to be the mean of all processes before `gradients`: the tasks' gradients and losses."""
        return [self.gradients_of_tasks.matrix, self._losses_seen]

    def rows(self) -> Iterator[Rows]:
        """And the gradients of tables."""
        return self.gradients_of_tasks.all_rows()

    # What there is to see

    def report(self) -> Iterator[str]:
        """Lines of text: losses, weights and gradient norms of the tasks, cosines between them."""
        if self.seen is None:
            return
        method = name_of(self.p)
        norms = np.sqrt(np.diag(self.seen.gram))
        for name, loss, weight, norm in zip(self.names, self.seen.losses, self.weights, norms):
            yield f"{method}: {name} = {loss:.6g}, weight = {weight:.6g}, gradient norm = {norm:.6g}"
        for first, second, cosine in self._pairs(self.seen.gram):
            yield f"{method}: cosine of {first} and {second} = {cosine:.6g}"

    def curves(self) -> Iterator[tuple[str, float]]:
        """The same as names and numbers."""
        if self.seen is None:
            return
        norms = np.sqrt(np.diag(self.seen.gram))
        for name, loss, weight, norm in zip(self.names, self.seen.losses, self.weights, norms):
            yield from ((f"losses/{name}", loss), (f"weights/{name}", weight), (f"gradient_norms/{name}", norm))
        for first, second, cosine in self._pairs(self.seen.gram):
            yield f"cosines/{first}_{second}", cosine

    def _pairs(self, gram: np.ndarray) -> Iterator[tuple[str, str, float]]:
        """Each two tasks and the cosine of their gradients."""
        found = cosines(gram)
        for i, j in combinations(range(len(self.names)), 2):
            yield self.names[i], self.names[j], float(found[i, j])

    def state(self) -> dict[str, Any]:
        return self.objective.state()

    def set_state(self, state: dict[str, Any]) -> None:
        self.objective.set_state(state)


def cosines(gram: np.ndarray) -> np.ndarray:
    """The cosine of each two gradients (..., K, K) from their inner products; 0 where one is zero."""
    norms = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    product = norms[..., :, None] * norms[..., None, :]
    return np.divide(gram, product, out=np.zeros_like(gram), where=product > 0)


def epoch(net: Net, iter_size: int) -> int:
    """The iterations, of all processes together, of an epoch of the net's data.

    Raises FieldError where no layer knows.
    """
    for layer in net.layers:
        if isinstance(layer, BatchLayer) and layer.length:
            return -(-layer.length // (layer.batch_size * iter_size * layer.size))
    raise FieldError(
        "DWA takes the mean losses of epochs, but no layer of the net knows how many records there are",
        "multi_task.dwa",
        hint="Set multi_task { dwa { period: 1000 } }: iterations.",
    )


def _maker(net: Net, blob: str) -> Any:
    return next(node.layer for node in net.nodes if blob in node.top_names)


def _listed(names: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join(f'"{name}"' for name in names)
