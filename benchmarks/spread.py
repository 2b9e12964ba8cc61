"""A table spread over processes: seconds of an iteration and memory of each process, over gloo on this machine.

    python benchmarks/spread.py [--rows 8000000] [--processes 1 2 4]

A table of `rows` rows of 32 floats, of which each process looks up 64 for each of 256 items, and a product behind it;
trained by SGD, on the NumPy engine, `batch_size` a process's. Data and weights are random.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

NET = """
layer {{ name: "ids" type: "DummyData" top: "id" top: "t"
  dummy_data_param {{ shape {{ dim: 256 dim: 64 }} shape {{ dim: 256 dim: 1 }}
    data_filler {{ type: "uniform" max: {rows} }} data_filler {{ type: "uniform" }} }} }}
layer {{ name: "table" type: "Embed" bottom: "id" top: "e" param {{ spread: true }}
  embed_param {{ input_dim: {rows} num_output: 32 combine: SUM bias_term: false weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "e" top: "y"
  inner_product_param {{ num_output: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }}
"""


def work(rows: int, iterations: int) -> None:
    """One of the processes; the first prints what all have measured."""
    from contextlib import nullcontext

    from caffepy.distributed import group as parallel
    from caffepy.distributed.member import attach
    from caffepy.distributed.tables import Tables
    from caffepy.engine import get_engine
    from caffepy.net import spread
    from caffepy.proto import text
    from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
    from caffepy.solver import Solver

    p = SolverParameter(base_lr=0.01, lr_policy="fixed", random_seed=1, type="SGD", momentum=0)
    p.net_param.CopyFrom(text.parse(NET.format(rows=rows), NetParameter()))
    group = parallel.Group(gpu=False) if parallel.launched() else None
    with spread.use(Tables(group)) if group else nullcontext():
        solver = Solver(p, engine=get_engine("numpy"))
    if group:
        attach(group, solver)
    solver.step(5)
    start = time.perf_counter(), time.process_time()
    solver.step(iterations)
    wall, cpu = ((now - before) / iterations for now, before in zip((time.perf_counter(), time.process_time()), start))
    found = {"MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "ms": 1e3 * wall, "cpu ms": 1e3 * cpu}
    print(json.dumps(found), flush=True)
    if group:
        group.close()


def run(processes: int, rows: int, iterations: int) -> list[dict[str, float]]:
    command = [sys.executable, __file__, "--work", "--rows", str(rows), "--iterations", str(iterations)]
    if processes > 1:
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *start, *command[1:]]
    single = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CAFFEPY_THREADS"), "1")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=single)
    if ended.returncode:
        sys.exit(ended.stderr)
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8_000_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.rows, args.iterations)
        return
    print(
        f"table: {args.rows * 32 * 4 / 1e6:.0f} MB\n| processes | MB each, the most | ms an iteration | cpu ms each |"
    )
    for processes in args.processes:
        found = run(processes, args.rows, args.iterations)
        most = {key: max(one[key] for one in found) for key in found[0]}
        print(f"| {processes} | {most['MB']:.0f} | {most['ms']:.1f} | {most['cpu ms']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
