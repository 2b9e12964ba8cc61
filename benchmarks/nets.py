"""Forward and backward time of five classic nets, against PyTorch eager and a caffe binary where there are any.

    python benchmarks/nets.py [--nets lenet,cifar10_quick] [--rounds 5] [--json FILE]

Every contender runs in a process of its own; the rounds alternate between them, so that a noisy machine slows all of
them alike, and ratios are taken of medians; in brackets of the best passes, since noise only adds. PyTorch takes part
if it is installed (or TORCH_PYTHON names an interpreter that has it), Caffe if CAFFE_BIN names its binary.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"

NETS = {  # definition, input shape, iterations a round
    "lenet": ("lenet/lenet_train_test.prototxt", (64, 1, 28, 28), 40),
    "cifar10_quick": ("cifar10_quick/cifar10_quick_train_test.prototxt", (100, 3, 32, 32), 10),
    "cifar10_full": ("cifar10_full/cifar10_full_train_test.prototxt", (100, 3, 32, 32), 10),
    "bvlc_alexnet": ("bvlc_alexnet/train_val.prototxt", (32, 3, 227, 227), 2),
    "bvlc_googlenet": ("bvlc_googlenet/train_val.prototxt", (16, 3, 224, 224), 2),
}


def synthetic(name: str) -> str:
    """The TRAIN net as prototxt, its data layers replaced by constant inputs: no contender waits for data."""
    from caffepy.net import wiring
    from caffepy.proto import caffe_pb2, text

    path, shape, _ = NETS[name]
    param = text.read_net(MODELS / path).param
    param.state.phase = caffe_pb2.TRAIN
    layers = [layer for layer, _ in wiring.filter_layers(param, iter([""] * len(param.layer)))]
    out = caffe_pb2.NetParameter(name=name)
    data = out.layer.add(name="data", type="DummyData", top=["data", "label"])
    # Constants: other fillers draw anew for each pass, and that would be measured, too.
    for dims, value in ((shape, 0.5), (shape[:1], 3)):
        data.dummy_data_param.shape.add(dim=dims)
        data.dummy_data_param.data_filler.add(type="constant", value=value)
    out.layer.extend(layer for layer in layers if layer.type != "Data")
    return text.to_text(out)


def passes(net, iterations: int) -> list[float]:
    """Milliseconds of each forward and backward pass, after two to warm up."""
    for _ in range(2):
        net.forward_backward()
    return [_timed(net.forward_backward) * 1000 for _ in range(iterations)]


def peak_memory() -> float:
    """MB that this process has held at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_caffepy(net_file: str, iterations: int) -> dict:
    from caffepy.pycaffe.net import Net
    from caffepy.show.flops import layer_flops

    net = Net(net_file, 0)
    return {"ms": passes(net, iterations), "gflop": sum(layer_flops(net)) / 1e9, "mb": peak_memory()}


def run_torch(net_file: str, iterations: int, channels_last: bool) -> dict:
    sys.path.insert(0, str(HERE))
    from torch_peer import TorchNet

    return {"ms": passes(TorchNet(net_file, channels_last), iterations), "mb": peak_memory()}


def run_caffe(net_file: str, iterations: int) -> dict:
    command = [os.environ["CAFFE_BIN"], "time", f"--model={net_file}", f"--iterations={iterations}"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {"ms": [float(ms) for ms in re.findall(r"forward-backward time: ([\d.e+]+) ms", log)]}


def sgemm_peak(size: int = 2000) -> float:
    """GFLOP/s of a large float32 product with all threads: the machine's limit in the same minute."""
    a = np.ones((size, size), np.float32)
    best = min(_timed(lambda: a @ a) for _ in range(5))
    return 2 * size**3 / best / 1e9


def _timed(fn) -> float:
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def machine() -> str:
    """Processor, cores and versions."""
    from caffepy.engine.threads import available_cores

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    return f"{name}, {available_cores()} cores, Python {platform.python_version()}, NumPy {np.__version__}"


def contenders() -> dict[str, str]:
    """Name to the interpreter that runs it."""
    found = {"caffepy": sys.executable}
    torch_python = os.environ.get("TORCH_PYTHON") or (sys.executable if importlib.util.find_spec("torch") else "")
    if torch_python:
        found["torch"] = found["torch_channels_last"] = torch_python
    if os.environ.get("CAFFE_BIN"):
        found["caffe"] = sys.executable
    return found


def one(contender: str, net_file: str, iterations: int) -> dict:
    """What a child process runs."""
    if contender == "caffepy":
        return run_caffepy(net_file, iterations)
    if contender == "caffe":
        return run_caffe(net_file, iterations)
    return run_torch(net_file, iterations, contender == "torch_channels_last")


def compare(name: str, rounds: int) -> dict:
    peers = contenders()
    results: dict[str, list[dict]] = {peer: [] for peer in peers}
    with tempfile.TemporaryDirectory() as folder:
        net_file = f"{folder}/{name}.prototxt"
        Path(net_file).write_text(synthetic(name))
        for _ in range(rounds):
            for peer, python in peers.items():
                command = [python, __file__, "--one", peer, "--net-file", net_file, "--rounds", str(NETS[name][2])]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                results[peer].append(json.loads(out.splitlines()[-1]))
    row = {peer: statistics.median(ms for r in runs for ms in r["ms"]) for peer, runs in results.items()}
    best = {peer: min(ms for r in runs for ms in r["ms"]) for peer, runs in results.items()}
    ours = results["caffepy"][0]
    peak = sgemm_peak()
    speed = ours["gflop"] / row["caffepy"] * 1000
    return {
        "net": name, "ms": row, "best_ms": best, "gflops": speed, "of_peak": speed / peak, "peak_gflops": peak,
        "mb": {peer: max(r["mb"] for r in runs) for peer, runs in results.items() if "mb" in runs[0]},
        "times_faster": {peer: row[peer] / row["caffepy"] for peer in row if peer != "caffepy"},
        "best_times_faster": {peer: best[peer] / best["caffepy"] for peer in row if peer != "caffepy"},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS), help="which nets, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs")
    parser.add_argument("--json", default="bench-nets.json", help="where the numbers go")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--net-file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.net_file, args.rounds)))
        return
    rows = []
    print(f"{machine()}; milliseconds forward + backward")
    print(f"{'net':<16}{'caffepy':>9}{'GFLOP/s':>9}{'of peak':>9}{'MB':>7}   times as fast as (best passes)")
    for name in args.nets.split(","):
        row = compare(name, args.rounds)
        rows.append(row)
        pairs = zip(row["times_faster"].items(), row["best_times_faster"].values())
        ratios = "  ".join(f"{peer} {ratio:.2f} ({best:.2f})" for (peer, ratio), best in pairs) or "no peer installed"
        print(
            f"{name:<16}{row['ms']['caffepy']:>9.1f}{row['gflops']:>9.1f}{row['of_peak']:>9.0%}"
            f"{row['mb']['caffepy']:>7.0f}   {ratios}",
            flush=True,
        )
        Path(args.json).write_text(json.dumps({"machine": machine(), "rounds": args.rounds, "nets": rows}, indent=1))
    if len(rows) > 1:
        for peer in rows[0]["times_faster"]:
            mean, best = (
                statistics.geometric_mean(row[key][peer] for row in rows)
                for key in ("times_faster", "best_times_faster")
            )
            print(f"geometric mean: {mean:.2f} ({best:.2f}) times as fast as {peer}")
    print(f"written to {args.json}")


if __name__ == "__main__":
    main()
