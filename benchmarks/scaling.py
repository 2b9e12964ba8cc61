"""How the time of a net grows with its batch and with the number of threads.

    python benchmarks/scaling.py [--net cifar10_quick] [--batches 1,2,4,8,16,32,64,128,256] [--threads 1,2]

Prints milliseconds forward + backward an image, for each batch and number of threads, and each thread count's gain
over one thread. Rounds go through all cases in turn, so that a noisy machine slows all alike; medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

import nets

from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.engine.threads import available_cores
from caffepy.pycaffe.net import Net


def build(name: str, batch: int, threads: int) -> Net:
    path, shape, iterations = nets.NETS[name]
    nets.NETS[name] = (path, (batch, *shape[1:]), iterations)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(nets.synthetic(name))
        file.flush()
        return Net(file.name, 0, engine=NumpyEngine(threads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="cifar10_quick", choices=nets.NETS)
    parser.add_argument("--batches", default="1,2,4,8,16,32,64,128,256", help="separated by commas")
    parser.add_argument("--threads", default=f"1,{available_cores()}", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    batches, threads = ([int(n) for n in text.split(",")] for text in (args.batches, args.threads))
    built = {(batch, count): build(args.net, batch, count) for batch in batches for count in threads}
    times: dict[tuple[int, int], list[float]] = {case: [] for case in built}
    for _ in range(args.rounds):
        for case, net in built.items():
            times[case] += nets.passes(net, max(1, 64 // case[0]))
    print(f"{args.net} on {nets.machine()}: milliseconds an image, forward + backward")
    print(f"{'batch':>6}" + "".join(f"{f'{n} thread' + 's' * (n > 1):>12}" for n in threads) + "   gain")
    for batch in batches:
        ms = [statistics.median(times[batch, count]) / batch for count in threads]
        gains = ", ".join(f"{ms[0] / m:.2f}" for m in ms[1:])
        print(f"{batch:>6}" + "".join(f"{m:>12.3f}" for m in ms) + f"   {gains}", flush=True)


if __name__ == "__main__":
    main()
