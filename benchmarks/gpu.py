"""Forward and backward time of the five nets on a GPU: our torch engine, plain and as a CUDA graph, and PyTorch eager.

    python benchmarks/gpu.py [--nets lenet,bvlc_alexnet] [--precision tf32] [--rounds 5] [--device cuda:0]

Without a GPU it says so and measures nothing. The contenders take turns in one process; ratios are of medians.
`--device cpu` runs the same code on the CPU, to try it out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from nets import NETS, synthetic

ITERATIONS = 20
"""Passes between two looks at the clock."""


def ours(net_file: str, device: str, precision: str, graph: bool) -> Callable[[], object]:
    from caffepy.engine import get_engine
    from caffepy.passes.recorded import RecordedPasses
    from caffepy.pycaffe.net import Net

    net = Net(net_file, 0, engine=get_engine("torch", device, precision))

    def step() -> None:
        net.clear_param_diffs()
        recorded.run() if recorded else net.forward_backward()

    recorded = RecordedPasses(net) if graph else None
    return step


def eager(net_file: str, device: str, precision: str) -> Callable[[], object]:
    import torch
    from torch_peer import TorchNet

    class OnDevice(TorchNet):
        def tensor(self, array) -> torch.Tensor:
            return super().tensor(array).to(device)

    peer = OnDevice(net_file, channels_last=True)
    # Our engine asks cuDNN for deterministic algorithms, in the whole process.
    own_switches = {"enabled": True, "benchmark": False, "deterministic": False, "allow_tf32": precision == "tf32"}

    def step() -> None:
        autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")
        with torch.backends.cudnn.flags(**own_switches), autocast:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            peer.forward_backward()

    return step


def milliseconds(step: Callable[[], object], wait: Callable[[], object]) -> float:
    """A pass, on average over some that follow each other without looking at results."""
    wait()
    start = time.perf_counter()
    for _ in range(ITERATIONS):
        step()
    wait()
    return (time.perf_counter() - start) / ITERATIONS * 1000


def compare(name: str, device: str, precision: str, rounds: int) -> dict[str, float]:
    import torch

    on_gpu = device.startswith("cuda")
    wait = (lambda: torch.cuda.synchronize(device)) if on_gpu else (lambda: None)
    with tempfile.TemporaryDirectory() as folder:
        net_file = f"{folder}/{name}.prototxt"
        Path(net_file).write_text(synthetic(name))
        steps = {"caffepy": ours(net_file, device, precision, False), "torch": eager(net_file, device, precision)}
        if on_gpu:
            steps["caffepy_graph"] = ours(net_file, device, precision, True)
        for step in steps.values():
            milliseconds(step, wait)  # to warm up
        times: dict[str, list[float]] = {contender: [] for contender in steps}
        for _ in range(rounds):
            for contender, step in steps.items():
                times[contender].append(milliseconds(step, wait))
    return {contender: statistics.median(values) for contender, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS), help="which nets, separated by commas")
    parser.add_argument("--precision", default="float32", choices=["float32", "tf32", "bf16"], help="of products")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs")
    parser.add_argument("--device", default="cuda:0", help="PyTorch's name of the device")
    args = parser.parse_args()
    from caffepy.engine import gpu_count

    if args.device.startswith("cuda") and not gpu_count():
        print("no GPU here (PyTorch is not installed or finds none): nothing measured")
        return
    print(f"{args.device}, {args.precision}; milliseconds forward + backward, and times as fast as PyTorch eager")
    for name in args.nets.split(","):
        row = compare(name, args.device, args.precision, args.rounds)
        best = min(value for contender, value in row.items() if contender != "torch")
        shown = "  ".join(f"{contender} {value:.2f}" for contender, value in row.items())
        print(f"{name:<16}{shown}  {row['torch'] / best:.2f} times", flush=True)


if __name__ == "__main__":
    main()
