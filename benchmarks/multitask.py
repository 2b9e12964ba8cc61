r"""Several tasks: our models on census-income beside DeepCTR-Torch, and what an objective costs.

    caffepy convert-table FILE --columns models/multitask/census.columns --output models/multitask/census \
        --split 60,20,20
    python benchmarks/multitask.py census [--peer PYTHON]     # AUC and CPU seconds an epoch, two seeds, in alternation
    python benchmarks/multitask.py cost                       # PCGRAD with K tasks in passes of the shared part

PYTHON is an interpreter that has deepctr-torch and scikit-learn. Both take the rows of one table; of each run counts
the epoch with the best AUC of income on the validation rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

FOLDER = Path("models/multitask")
MODELS = {"shared_bottom": "SharedBottom", "mmoe": "MMOE", "ple": "PLE"}
TASKS = ("income", "never_married")
EPOCHS, BATCHES = 6, 117


def ours(model: str, seed: int) -> dict[str, list]:
    """Of each epoch the AUCs of validation and test, and the CPU seconds of training."""
    from caffepy.proto import text
    from caffepy.solver import Solver

    param = text.read_solver(FOLDER / model / "solver.prototxt")
    param.random_seed, param.test_interval = seed, 1 << 30
    param.ClearField("snapshot_best")
    solver = Solver(param)
    found: dict[str, list] = {"val": [], "test": [], "cpu": []}
    for _ in range(EPOCHS):
        start = time.process_time()
        solver.step(BATCHES)
        found["cpu"].append(time.process_time() - start)
        for i, part in enumerate(("val", "test")):
            scores = solver.test(i)
            found[part].append([scores[f"{task}_auc"] for task in TASKS])
    return found


def export(path: Path) -> None:
    """The rows of the tables for the peer: ids by column from 0 on, dense values, labels."""
    from caffepy.data.tables.table import open_table

    arrays = {}
    for part in ("train", "val", "test"):
        table = open_table(str(FOLDER / "census" / f"{part}.h5"))
        names = [n for n, c in table.columns.items() if c.size and c.values.ndim == 1]
        arrays |= {f"{part}_ids": np.stack([table[n] for n in names], axis=1), f"{part}_dense": table["dense"]}
        arrays |= {f"{part}_{task}": table[task] for task in TASKS}
        arrays["sizes"] = np.array([table.size(n) for n in names])
    np.savez(path, **arrays)


def peer(path: str, model: str, seed: int) -> dict[str, list]:
    """As `ours`, run by the interpreter that has the peer."""
    import torch
    from deepctr_torch import inputs
    from deepctr_torch.models import multitask
    from sklearn.metrics import roc_auc_score

    data = np.load(path)
    count, width = len(data["sizes"]), data["train_dense"].shape[1]
    columns = [inputs.SparseFeat(f"c{i}", int(n), embedding_dim=4) for i, n in enumerate(data["sizes"])]
    columns += [inputs.DenseFeat(f"d{i}", 1) for i in range(width)]
    common = {"tower_dnn_hidden_units": (32, 16), "task_types": ["binary"] * 2, "task_names": list(TASKS), "seed": seed}
    special = {
        "SharedBottom": {"bottom_dnn_hidden_units": (128, 64)},
        "MMOE": {"num_experts": 8, "expert_dnn_hidden_units": (32,), "gate_dnn_hidden_units": ()},
        "PLE": {
            "shared_expert_num": 2, "specific_expert_num": 2, "num_levels": 2, "expert_dnn_hidden_units": (32,),
            "gate_dnn_hidden_units": (),
        },
    }[model]  # fmt: skip
    torch.manual_seed(seed)
    net = getattr(multitask, model)(columns, **common, **special, device="cpu")
    net.compile(torch.optim.Adam(net.parameters(), 1e-3), ["binary_crossentropy"] * 2)

    def part(name):
        x = {f"c{i}": data[f"{name}_ids"][:, i] for i in range(count)}
        x |= {f"d{i}": data[f"{name}_dense"][:, i] for i in range(width)}
        return x, np.stack([data[f"{name}_{task}"] for task in TASKS], axis=1)

    x, y = part("train")
    found: dict[str, list] = {"val": [], "test": [], "cpu": []}
    for _ in range(EPOCHS):
        start = time.process_time()
        net.fit(x, y, batch_size=512, epochs=1, verbose=0)
        found["cpu"].append(time.process_time() - start)
        for name in ("val", "test"):
            inputs_, labels = part(name)
            scores = net.predict(inputs_, 4096)
            found[name].append([float(roc_auc_score(labels[:, k], scores[:, k])) for k in range(2)])
    return found


def line(who: str, model: str, runs: list[dict[str, list]]) -> str:
    """A row of the table: AUCs of test at each seed's best epoch of validation, CPU seconds an epoch."""
    best = [run["test"][int(np.argmax([auc[0] for auc in run["val"]]))] for run in runs]
    aucs = [" to ".join(f"{auc:.4f}" for auc in sorted({round(b[k], 4) for b in best})) for k in range(2)]
    cpu = np.concatenate([run["cpu"] for run in runs])
    return f"| {model} | {who} | {aucs[0]} | {aucs[1]} | {np.median(cpu):.2f} ({cpu.min():.2f} to {cpu.max():.2f}) |"


def census(models: list[str], seeds: int, python: str) -> None:
    exported = FOLDER / "census" / "rows.npz"
    if python:
        export(exported)
    print("| model | | AUC income | AUC never married | CPU s an epoch |\n| --- | --- | --- | --- | --- |")
    for model in models:
        runs: dict[str, list] = {"caffepy": [], "DeepCTR-Torch": []}
        for seed in range(1, seeds + 1):
            runs["caffepy"].append(ours(model, seed))
            if python and model in MODELS:
                command = [python, __file__, "peer", str(exported), MODELS[model], str(seed)]
                printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                runs["DeepCTR-Torch"].append(json.loads(printed.splitlines()[-1]))
        for who, found in runs.items():
            if found:
                print(line(who, model, found), flush=True)


SHARED = """
layer { name: "in" type: "DummyData" top: "x" top: "t"
        dummy_data_param { shape { dim: 512 dim: 512 } shape { dim: 512 dim: 1 }
                           data_filler { type: "uniform" min: -1 } data_filler { type: "uniform" } } }
layer { name: "fc1" type: "InnerProduct" bottom: "x" top: "fc1"
        inner_product_param { num_output: 1024 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "fc1" top: "fc1" }
layer { name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
        inner_product_param { num_output: 1024 weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "fc2" top: "fc2" }
"""
HEAD = """
layer { name: "headK" type: "InnerProduct" bottom: "fc2" top: "headK"
        inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "lossK" type: "SigmoidCrossEntropyLoss" bottom: "headK" bottom: "t" top: "lossK" }
"""


def cost(tasks: list[int], rounds: int) -> None:
    """Passes of a solver with PCGRAD, without the update, in alternation with plain ones of the same net."""
    from caffepy.proto import text
    from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
    from caffepy.solver import Solver

    print(
        "| K | forward ms | backward ms | 1 + K passes ms | PCGRAD ms | ratio |\n| --- | --- | --- | --- | --- | --- |"
    )
    for k in tasks:
        p = text.parse('base_lr: 0.01 lr_policy: "fixed" multi_task { method: PCGRAD }', SolverParameter())
        definition = SHARED + "".join(HEAD.replace("K", str(i)) for i in range(k))
        p.net_param.CopyFrom(text.parse(definition, NetParameter()))
        solver = Solver(p)
        times: dict[str, list[float]] = {"forward": [], "backward": [], "pcgrad": []}
        for _ in range(rounds):
            times["forward"].append(_timed(solver.passes.forward))
            times["backward"].append(_timed(solver.passes.backward))
            solver.net.clear_param_diffs()
            times["pcgrad"].append(_timed(lambda solver=solver: _pcgrad(solver)))
        forward, backward, pcgrad = (1e3 * float(np.median(times[name])) for name in times)
        bound = forward + k * backward
        print(
            f"| {k} | {forward:.2f} | {backward:.2f} | {bound:.2f} | {pcgrad:.2f} | {pcgrad / bound:.2f} |", flush=True
        )


def _pcgrad(solver) -> None:
    solver.announce("batch")
    solver.passes.forward()
    solver.multi_task.backward()
    solver.announce("gradients")


def _timed(task) -> float:
    start = time.process_time()
    task()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("census")
    one.add_argument("--models", nargs="+", default=list(MODELS))
    one.add_argument("--seeds", type=int, default=2)
    one.add_argument("--peer", default="", metavar="PYTHON")
    two = commands.add_parser("cost")
    two.add_argument("--tasks", type=int, nargs="+", default=[2, 3, 5])
    two.add_argument("--rounds", type=int, default=20)
    three = commands.add_parser("peer")
    for name in ("path", "model"):
        three.add_argument(name)
    three.add_argument("seed", type=int)
    options = parser.parse_args()
    if options.command == "census":
        census(options.models, options.seeds, options.peer)
    elif options.command == "cost":
        cost(options.tasks, options.rounds)
    else:
        json.dump(peer(options.path, options.model, options.seed), sys.stdout)


if __name__ == "__main__":
    main()
