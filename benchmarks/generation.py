"""What a token costs that is made behind many others: python benchmarks/generation.py

The time of a step at two places of a text of 2,000 tokens, the 20th of a hundred in order, and that of reading all of
it again. `gpt_mini` has rotary positions here, which have no end. Random weights: they change no time.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from caffepy import TEST, Net
from caffepy.generate.stepper import Stepper
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter

LENGTH = 2000
PLACES = (slice(100, 200), slice(LENGTH - 100, LENGTH))


def net(name: str) -> Net:
    definition = Path("models", name, "deploy.prototxt").read_text()
    rotary = definition.replace("mode: LEARNED max_length: 64", "mode: ROTARY num_heads: 4")
    return Net(text.parse(rotary, NetParameter()), TEST)


def seconds(stepper: Stepper, tokens: np.ndarray) -> float:
    begun = time.perf_counter()
    stepper.read(tokens)
    return time.perf_counter() - begun


def main() -> None:
    tokens = np.random.default_rng(0).integers(97, size=(LENGTH, 1))
    for name in ("char_rnn", "char_gru", "gpt_mini"):
        built = net(name)
        with Stepper(built).begun(LENGTH) as stepper:
            steps = [seconds(stepper, tokens[i : i + 1]) for i in range(LENGTH)]
        with Stepper(built).begun(LENGTH) as stepper:
            whole = seconds(stepper, tokens)
        early, late = (1e3 * np.percentile(steps[place], 20) for place in PLACES)
        print(f"{name}: token 150 {early:.2f} ms, token 1,950 {late:.2f} ms; all read again {1e3 * whole:.0f} ms")


if __name__ == "__main__":
    main()
