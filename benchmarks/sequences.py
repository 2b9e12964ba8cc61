"""LSTM, GRU and a training step of gpt_mini against PyTorch eager, in alternation.

    python benchmarks/sequences.py [--only LSTM,GRU,gpt_mini] [--rounds 30] [--threads 2]

LSTM and GRU: forward and backward of 64 sequences of 50 steps, 256 values in and out, 1 and 2 layers. gpt_mini:
forward, backward and Adam of the net of models/gpt_mini on 16 sequences of 64 random characters. Times are the best of
all rounds, milliseconds: noise only adds. Needs PyTorch beside caffepy.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
STEPS, ITEMS, SIZE = 50, 64, 256


def recurrent(kind: str, layers: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A pass forward and backward of ours, and of torch.nn."""
    import torch

    from caffepy.net.alone import Alone

    random = np.random.default_rng(1)
    x, dy = random.standard_normal((2, STEPS, ITEMS, SIZE)).astype(np.float32)
    filler = "weight_filler { type: 'uniform' min: -0.06 max: 0.06 }"
    ours = Alone(f'type: "{kind}" recurrent_param {{ num_output: {SIZE} num_layers: {layers} {filler} }}', x)
    theirs = getattr(torch.nn, kind)(SIZE, SIZE, layers)
    given, gradient = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def run_ours() -> None:
        with ours.engine.computing():
            ours.layer.forward(ours.bottom, ours.top)
            ours.top[0].diff[...] = dy
            ours.layer.backward(ours.top, [True], ours.bottom)

    return run_ours, lambda: theirs(given)[0].backward(gradient)


def gpt_mini() -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step of ours, and of the same net in PyTorch."""
    import torch

    sys.path.insert(0, str(HERE))
    from text_peer import GPTMini, loss_of

    from caffepy.proto import text
    from caffepy.proto.caffe_pb2 import SolverParameter
    from caffepy.solver.solver import Solver

    folder = HERE.parent / "models/gpt_mini"
    definition = text.read_net(folder / "train_val.prototxt").param
    random = np.random.default_rng(1)
    x, label = random.integers(0, 97, (2, 64, 16))
    param = SolverParameter(type="Adam", base_lr=1e-4, momentum=0.9, momentum2=0.95, lr_policy="fixed", max_iter=10**6)
    data = param.net_param.layer.add(name="data", type="Input", top=["data", "label"])
    for _ in range(2):
        data.input_param.shape.add(dim=x.shape)
    param.net_param.layer.extend(layer for layer in definition.layer if layer.type not in ("TextData", "Accuracy"))
    solver = Solver(param)
    for name, values in (("data", x), ("label", label)):
        solver.net.engine_blobs[name].fill(values.astype(np.float32))
    net, batch = GPTMini(), (torch.from_numpy(x), torch.from_numpy(label), False)
    rule = torch.optim.Adam(net.parameters(), 1e-4, (0.9, 0.95))

    def run_theirs() -> None:
        rule.zero_grad()
        loss_of(net, batch).backward()
        rule.step()

    return lambda: solver.step(1), run_theirs


def timed(run: Callable[[], None]) -> float:
    begun = time.perf_counter()
    run()
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="LSTM,GRU,gpt_mini")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    os.environ["CAFFEPY_THREADS"] = str(given.threads)
    import torch

    torch.set_num_threads(given.threads)
    print("| what | caffepy | PyTorch | ratio |\n| --- | ---: | ---: | ---: |")
    for what in given.only.split(","):
        for layers in (1,) if what == "gpt_mini" else (1, 2):
            pair = gpt_mini() if what == "gpt_mini" else recurrent(what, layers)
            for run in pair * 2:
                run()
            ours, theirs = (min(times) for times in zip(*([timed(run) for run in pair] for _ in range(given.rounds))))
            name = what if what == "gpt_mini" else f"{what}, {layers} layer{'s' * (layers > 1)}"
            print(f"| {name} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.2f} |", flush=True)


if __name__ == "__main__":
    main()
