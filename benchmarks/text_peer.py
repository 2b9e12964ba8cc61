"""char_rnn and gpt_mini written in PyTorch, trained by the same recipe on the same text: loss on the text kept apart.

    python benchmarks/text_peer.py char_rnn --seed 1

The batches are those that TextData makes, the first weights are drawn from the same distributions; the recipe is read
from the net's solver.prototxt. A line for every test: iteration, loss.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from caffepy.data.order import Cursor
from caffepy.data.texts import tokens, vocabulary
from caffepy.data.texts.order import Streams, Windows
from caffepy.proto import text

SIZE = 97


class CharRNN(nn.Module):
    """Embed, LSTM, InnerProduct; the state goes on from batch to batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(SIZE, 64)
        self.lstm = nn.LSTM(64, 192)
        self.score = nn.Linear(192, SIZE)
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
        self.state = None

    def forward(self, x, goes_on):
        y, state = self.lstm(self.embed(x), self.state if goes_on else None)
        self.state = tuple(part.detach() for part in state)
        return self.score(y)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(128), nn.LayerNorm(128)])
        self.qkv, self.proj = nn.Linear(128, 384), nn.Linear(128, 128)
        self.fc = nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))

    def forward(self, x):
        steps, items, _ = x.shape
        q, k, v = (
            part.view(steps, items, 4, 32).permute(1, 2, 0, 3) for part in self.qkv(self.norms[0](x)).split(128, dim=-1)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.permute(2, 0, 1, 3).reshape(steps, items, 128))
        return x + self.fc(self.norms[1](x))


class GPTMini(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(SIZE, 128), nn.Parameter(torch.empty(64, 128))
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.norm, self.score = nn.LayerNorm(128), nn.Linear(128, SIZE)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.00707 if "proj" in name or "fc.2" in name else 0.02)
            elif "bias" in name:
                nn.init.zeros_(parameter)

    def forward(self, x, goes_on):
        return self.score(self.norm(self.blocks(self.embed(x) + self.places[: len(x), None])))


class Batches:
    """What TextData makes of a file of tokens."""

    def __init__(self, folder: str, part: str, items: int, seed: int | None):
        known = vocabulary.read(f"{folder}/text/vocabulary.json")
        self.tokens = torch.from_numpy(
            tokens.open_tokens(f"{folder}/text/{part}.h5", known, "NEXT").tokens.astype(np.int64)
        )
        count = len(self.tokens)
        self.order = Streams(count, items, 64) if seed is None else Windows(count, items, 64, seed)
        self.cursor = Cursor()

    def __iter__(self):
        while True:
            starts, goes_on, self.cursor = self.order.take(self.cursor)
            places = torch.arange(64)[:, None] + torch.from_numpy(starts)
            yield self.tokens[places], self.tokens[places + 1], goes_on


def loss_of(net: nn.Module, batch) -> torch.Tensor:
    x, label, goes_on = batch
    return nn.functional.cross_entropy(net(x, goes_on).flatten(0, 1), label.flatten())


def rate(solver, i: int) -> float:
    """Of iteration i: the solver's policy and warm-up."""
    if solver.lr_policy == "poly":
        value = solver.base_lr * (1 - i / solver.max_iter) ** solver.power
    else:
        value = solver.base_lr * solver.gamma ** sum(i >= step for step in solver.stepvalue)
    return value * min(1.0, i / solver.warmup_iter) if solver.warmup_iter else value


@torch.no_grad()
def tested(net: nn.Module, batches, count: int) -> float:
    net.state = None
    return float(np.mean([loss_of(net, batch).item() for _, batch in zip(range(count), batches)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", choices=["char_rnn", "gpt_mini"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    folder = f"models/{given.net}"
    solver = text.read_solver(f"{folder}/solver.prototxt")
    net, items, seed = (CharRNN(), 32, None) if given.net == "char_rnn" else (GPTMini(), 16, given.seed)
    train, test = iter(Batches(folder, "train", items, seed)), iter(Batches(folder, "test", items, None))
    step = torch.optim.Adam(net.parameters(), betas=(solver.momentum, solver.momentum2))
    begun = time.perf_counter()
    for i in range(solver.max_iter + 1):
        if i and i % solver.test_interval == 0:
            kept = getattr(net, "state", None)
            print(f"{i} {tested(net, test, solver.test_iter[0]):.4f} {time.perf_counter() - begun:.0f} s", flush=True)
            net.state = kept
        for group in step.param_groups:
            group["lr"] = rate(solver, i)
        step.zero_grad()
        loss_of(net, next(train)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), solver.clip_gradients)
        step.step()


if __name__ == "__main__":
    main()
