"""How the tasks of a net agree: cosines of their gradients, and what each reaches alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from os import PathLike

import numpy as np

from caffepy.engine import Engine
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
from caffepy.show.brief import brief
from caffepy.show.pictures import pyplot
from caffepy.solver import Listener, Solver
from caffepy.solver.objectives.multi_task import MultiTask, cosines
from caffepy.solver.training import Training

ALL = "all shared"


class ConflictWatch(Listener):
    """Notes of every iteration the losses and, where several tasks are trained, their inner products by layer."""

    def __init__(self, losses: list[str], tasks: MultiTask | None, tell: Callable[[], None]):
        self.names, self.tasks, self.tell = losses, tasks, tell
        self.losses: list[list[float]] = []
        self.grams: dict[str, list[np.ndarray]] = {}

    def gradients(self, solver: Training) -> None:
        self.losses.append([float(solver.net.engine_blobs[name].data) for name in self.names])
        if self.tasks:
            for layer in self.tasks.layers:
                self.grams.setdefault(layer, []).append(self.tasks.gram(layer))
            self.grams.setdefault(ALL, []).append(self.tasks.gram())
        self.tell()


class Conflicts:
    """What a short training has shown of K tasks over T iterations."""

    def __init__(self, tasks: list[str], together: ConflictWatch, alone: list[ConflictWatch]):
        self.tasks = tasks
        self.grams = {layer: np.stack(grams) for layer, grams in together.grams.items()}
        """By layer (T, K, K), the last entry that of all shared layers."""
        self.together = np.array(together.losses)
        """(T, K)"""
        self.alone = np.array([watch.losses for watch in alone])
        """(K, T, K), the first axis the task that was trained."""

    def norms(self, layer: str) -> np.ndarray:
        """(T, K)"""
        return np.sqrt(np.einsum("tkk->tk", self.grams[layer]))

    def cosines(self, layer: str, i: int, j: int) -> np.ndarray:
        """(T,), 0 where a gradient is zero."""
        return cosines(self.grams[layer])[:, i, j]

    def final(self, losses: np.ndarray) -> np.ndarray:
        """The mean over the second half of the iterations (..., T, K)."""
        return losses[..., losses.shape[-2] // 2 :, :].mean(axis=-2)

    def table(self) -> str:
        """For each pair of tasks and each layer the mean cosine, the share of iterations below 0, and mean norms."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max(map(len, self.grams))
        for i, j in combinations(range(len(self.tasks)), 2):
            first, second = self.tasks[i], self.tasks[j]
            yield f"{first} and {second}, {len(self.together)} iterations"
            norms = f"norm of {first}", f"norm of {second}"
            yield f"  {'layer':<{width}}  {'cosine':>7}  {'conflicting':>11}  {norms[0]}  {norms[1]}"
            for layer in self.grams:
                cosine, norm = self.cosines(layer, i, j), self.norms(layer).mean(axis=0)
                yield (
                    f"  {layer:<{width}}  {cosine.mean():>7.3f}  {(cosine < 0).mean():>11.1%}  "
                    f"{norm[i]:>{len(norms[0])}.4g}  {norm[j]:>{len(norms[1])}.4g}"
                )
        yield from self._alone_lines()

    def _alone_lines(self) -> Iterator[str]:
        rows = {"together": self.final(self.together)}
        rows |= {f"{task} alone": values for task, values in zip(self.tasks, self.final(self.alone))}
        width = max(map(len, rows))
        yield f"losses, the mean of the last {len(self.together) - len(self.together) // 2} iterations"
        yield f"  {'trained':<{width}}  " + "  ".join(self.tasks)
        for name, values in rows.items():
            yield f"  {name:<{width}}  " + "  ".join(f"{v:>{len(t)}.6g}" for t, v in zip(self.tasks, values))
        for k, task in enumerate(self.tasks):
            before, after = rows["together"][k], self.final(self.alone)[k, k]
            verb = "would gain alone" if after < before else "would not gain alone"
            yield f"{task} {verb}: {before:.6g} together, {after:.6g} alone"

    def plot(self, path: str | PathLike[str]) -> None:
        """A picture: cosines of all shared layers, losses together and alone. Needs matplotlib."""
        plt = pyplot("drawing conflicts")
        figure, (left, *right) = plt.subplots(1, 1 + len(self.tasks), figsize=(4.5 * (1 + len(self.tasks)), 3.5))
        for i, j in combinations(range(len(self.tasks)), 2):
            left.plot(self.cosines(ALL, i, j), label=f"{self.tasks[i]}, {self.tasks[j]}")
        left.axhline(0, color="grey", linewidth=0.5)
        left.set(title="cosine of gradients", xlabel="iteration")
        left.legend()
        for k, axis in enumerate(right):
            axis.plot(self.together[:, k], label="together")
            for trained, losses in zip(self.tasks, self.alone):
                axis.plot(losses[:, k], label=f"{trained} alone")
            axis.set(title=self.tasks[k], xlabel="iteration", yscale="log")
            axis.legend()
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


def watch(
    param: SolverParameter, iterations: int, engine: Engine, file: str = "", tell: Callable[[], None] = lambda: None
) -> Conflicts:
    """Train with all tasks, then with each alone, from the same weights and on the same batches.

    A definition without `multi_task` has all losses of its net as tasks, UNIFORM. `tell` is called at each iteration.
    """
    param = _plain(param)
    solver = Solver(param, engine=engine, file=file)
    tasks = list(_tasks(solver).names)
    together = _train(solver, tasks, iterations, tell)
    alone = [_train(Solver(_only(param, task, tasks), engine=engine), tasks, iterations, tell) for task in tasks]
    return Conflicts(tasks, together, alone)


def _tasks(solver: Solver) -> MultiTask:
    assert solver.multi_task is not None
    return solver.multi_task


def _train(solver: Solver, tasks: list[str], iterations: int, tell: Callable[[], None]) -> ConflictWatch:
    watch = ConflictWatch(tasks, solver.multi_task, tell)
    solver.listeners.append(watch)
    solver.step(iterations)
    return watch


def _plain(param: SolverParameter) -> SolverParameter:
    """Only to be looked at, with tasks and their curves."""
    plain = brief(param)
    if param.tensorboard_dir:
        plain.tensorboard_dir = param.tensorboard_dir
    plain.multi_task.SetInParent()
    plain.multi_task.report = 0
    return plain


def _only(param: SolverParameter, task: str, tasks: list[str]) -> SolverParameter:
    """The same training of one task: the other losses are computed, but weigh nothing."""
    alone = SolverParameter()
    alone.CopyFrom(param)
    alone.ClearField("multi_task")
    alone.ClearField("tensorboard_dir")
    fields = ("net", "net_param", "train_net", "train_net_param")
    source = next(getattr(alone, field) for field in fields if alone.HasField(field))
    net = NetParameter()
    net.CopyFrom(text.definition(source).param)
    for layer in net.layer:
        if any(top in tasks and top != task for top in layer.top):
            del layer.loss_weight[:]
            layer.loss_weight.extend([0.0] * len(layer.top))
    for field in fields:
        alone.ClearField(field)  # type: ignore[arg-type]
    alone.net_param.CopyFrom(net)
    return alone
