"""caffepy train: train or fine-tune a model."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from caffepy.cli import options
from caffepy.errors import ConfigError

if TYPE_CHECKING:
    from caffepy.distributed.group import Group
    from caffepy.proto.caffe_pb2 import SolverParameter

EFFECTS = options.choice(["stop", "snapshot", "none"])
log = logging.getLogger("caffepy.train")


@click.command(help="Train or fine-tune a model.")
@click.option("--solver", required=True, help="The solver definition (prototxt).")
@click.option("--weights", default="", help='Trained weights to start from, separated by ",".')
@click.option("--snapshot", default="", help="The solver state to resume from.")
@click.option("--resume", is_flag=True, help="Resume the run that was written last, or start where there is none.")
@click.option("--sigint-effect", type=EFFECTS, default="stop", show_default=True, help="What Ctrl-C does.")
@click.option("--sigterm-effect", type=EFFECTS, default="stop", show_default=True, help="What SIGTERM does.")
@click.option("--sighup-effect", type=EFFECTS, default="snapshot", show_default=True, help="What a hang-up does.")
@click.option("--log", "log_file", help="Where the log goes, too (default: the snapshot prefix and .log; - for none).")
@click.option("--tensorboard", default="", metavar="DIR", help="Write curves for TensorBoard into this folder.")
@options.level
@options.stage
@options.gpu
@options.engine
@options.precision
@click.option("--cuda-graph", is_flag=True, help="On a GPU: record the passes once, then start them with one call.")
@options.imports
@options.setting(of_net=False)
@options.verbose
@options.max_memory
@options.no_python_layers
@options.force
def command(
    solver,
    weights,
    snapshot,
    resume,
    sigint_effect,
    sigterm_effect,
    sighup_effect,
    log_file,
    tensorboard,
    level,
    stage,
    gpu,
    engine,
    precision,
    cuda_graph,
    verbose,
):
    from caffepy.cli import terminal
    from caffepy.distributed import group as parallel
    from caffepy.distributed.member import attach
    from caffepy.distributed.tables import Tables
    from caffepy.net import spread
    from caffepy.passes import Recorded
    from caffepy.proto import text
    from caffepy.search.reporter import reported, told_early
    from caffepy.solver import Solver, policies
    from caffepy.solver import snapshot as snapshots
    from caffepy.solver.signals import heard

    if bool(weights) + bool(snapshot) + resume > 1:
        raise ConfigError(
            "--weights, --snapshot and --resume exclude each other",
            hint="--snapshot and --resume restore the weights with everything else.",
        )
    handler = terminal.start_logging(verbose)
    if _left_to_processes(gpu, engine):
        return
    param = text.read_solver(solver)
    with text.named(solver):  # before nets are built, which may take a while
        policies.check_length(param)
        policies.check(param)
    if tensorboard:
        param.tensorboard_dir = tensorboard
    param.train_state.level = level
    param.train_state.stage.extend(options.stages(stage))
    path = log_file or f"{snapshots.prefix(param, solver)}.log"
    file = click.get_current_context().with_resource(terminal.also_into("" if parallel.rank() or path == "-" else path))
    chosen = options.choose_engine(engine, gpu, param, precision)
    group = parallel.Group(gpu=chosen.on_gpu) if parallel.launched() else None
    snapshot = _snapshot(param, solver, snapshot, resume, group)
    if weights or snapshot:
        del param.weights[:]
        param.weights.extend([weights] if weights else [])
    with told_early(solver), spread.use(Tables(group)) if group else nullcontext():
        built = Solver(param, file=solver, engine=chosen)
    if cuda_graph:
        built.net.executor = Recorded(built.net)
    log.info("Starting Optimization")
    effects = {"SIGINT": sigint_effect, "SIGTERM": sigterm_effect, "SIGHUP": sighup_effect}
    try:
        with heard(built, effects), terminal.training(handler, built, file), reported(built, solver):
            if group:
                attach(group, built)
            built.solve(snapshot or None)
            if group:
                group.close()
    except KeyboardInterrupt:
        kept = f"the last one is {built.last_snapshot}" if built.last_snapshot else "there is none"
        log.warning("Stopped at iteration %d without a snapshot: %s", built.iter, kept)
        raise
    log.info("Optimization Done.")


def _left_to_processes(gpu: str, engine: str | None) -> bool:
    """Whether several GPUs are named, and this command has run in a process for each; one of them goes on here."""
    from caffepy.distributed import group as parallel
    from caffepy.distributed.launch import end_with_launcher, launch
    from caffepy.engine import check_gpu

    end_with_launcher()
    if gpu and engine != "numpy" and not parallel.launched() and len(ids := options.gpu_ids(gpu)) > 1:
        for i in ids:
            check_gpu(i)  # a missing one is named here, not by every process
        launch(len(ids), click.get_current_context().find_root().obj)
        return True
    if parallel.launched() and parallel.rank():
        logging.getLogger("caffepy").setLevel(logging.WARNING)
    return False


def _snapshot(param: SolverParameter, file: str, snapshot: str, resume: bool, group: Group | None) -> str:
    """The solver state to start from: `snapshot`, or the newest where training resumes; "" for a new training."""
    from caffepy.distributed import group as parallel
    from caffepy.solver import runs, written
    from caffepy.solver import snapshot as snapshots

    # torchrun counts restarts a machine: one that was only told to start again does not know of it.
    restarted = parallel.restarted()
    if resume or (group.any(restarted) if group else restarted):
        snapshot = snapshots.newest(snapshots.prefix(param, file)) or snapshot
        snapshot = group.from_first(snapshot) if group else snapshot
        if snapshot:
            run = runs.of(written.stem(snapshot))
            log.info("Resuming from %s%s", snapshot, f", of {run}" if run else "")
        else:
            log.info("No snapshot yet: starting from the beginning")
    return snapshot
