"""A net that reads tokens and says what comes next; what it has read before it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from caffepy import passes
from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array
from caffepy.net.layer import Layer
from caffepy.net.net import Net
from caffepy.net.stepwise import Stepwise
from caffepy.proto.caffe_pb2 import RecurrentParameter

CONT = "cont"


class Stepper:
    """Reads N sequences side by side, some steps at a time; each step costs one step.

    The net has an input of tokens (T, N), the first, perhaps markers `cont` (T, N), and as its last output scores or
    probabilities (T, N, V) of the next token. Other inputs stay as they are, one item for all sequences or one for
    each. Layers that look at several steps must be `Stepwise`. Where one can take in only so many steps, the second
    half of these is read again when they are full.
    """

    def __init__(self, net: Net):
        if not net.inputs or not net.outputs:
            missing = "inputs" if not net.inputs else "outputs"
            raise ConfigError(f"the net has no {missing}", hint="Give the net for deployment, deploy.prototxt.")
        self.net, self.engine = net, net.engine
        self.data = net.engine_blobs[net.inputs[0]]
        self.cont = net.engine_blobs[CONT] if CONT in net.inputs else None
        self.others = [net.engine_blobs[name] for name in net.inputs[1:] if name != CONT]
        self.output = net.engine_blobs[net.outputs[-1]]
        if len(self.data.shape) != 2:
            raise ShapeError(
                f'the input "{net.inputs[0]}" is {self.data.shape}', hint="It must be tokens, (T, N): steps, items."
            )
        self.layers = [layer for layer in net.layers if isinstance(layer, Stepwise)]
        for layer in net.layers:
            _check(layer)
        self.most = min((most for layer in self.layers if (most := layer.most_steps())), default=0)
        """Steps that the net can see at once; 0: any number."""
        self._makers = [node.layer.type for node in net.nodes if net.outputs[-1] in node.top_names]
        self._shape((1, 1))
        self.size = self.output.shape[-1]
        """How many tokens the net tells apart, V."""

    @contextmanager
    def begun(self, steps: int) -> Iterator[Stepper]:
        """In the block the net reads on from pass to pass, `steps` in all; behind it every pass begins anew."""
        self.begin(steps)
        try:
            yield self
        finally:
            for layer in self.layers:
                layer.restart(0)

    def begin(self, steps: int) -> None:
        """Forget what was read; `steps` are to come."""
        self.capacity = min(steps, self.most or steps)
        self.history: list[np.ndarray] = []
        self._restart()

    def read(self, tokens: Array) -> Array:
        """Read on, tokens (T, N). The scores (N, V) of what comes next: log probabilities, up to a constant."""
        host = np.asarray(self.engine.to_host(tokens)) if not isinstance(tokens, np.ndarray) else tokens
        self.history.extend(host)
        if self.most and self.seen + len(host) > self.most:
            tokens = np.stack(self.history[-max(1, self.most // 2) :])
            self._restart()
        self._pass(tokens)
        scores = self.output.data[-1, ...]
        return self.engine.xp.log(scores + 1e-30) if self._makers[-1:] == ["Softmax"] else self.engine.copy(scores)

    def choose(self, index: Array) -> None:
        """Sequence i goes on from what sequence index[i] has read."""
        for layer in self.layers:
            layer.choose(index)
        host = self.engine.to_host(index)
        self.history = [row[host] for row in self.history]

    def _restart(self) -> None:
        self.seen = 0
        for layer in self.layers:
            layer.restart(self.capacity)

    def _pass(self, tokens: Array) -> None:
        with self.net.lock:
            self._shape(tuple(tokens.shape))
            self.data.data[...] = self.engine.asarray(tokens) if isinstance(tokens, np.ndarray) else tokens
            if self.cont is not None:
                self.cont.data[...] = 1
                if not self.seen:
                    self.cont.data[0, ...] = 0
            passes.of(self.net).forward()
            self.net.settle()
        self.seen += tokens.shape[0]

    def _shape(self, shape: tuple[int, ...]) -> None:
        if self.data.shape == shape and len(self.output.shape) == 3:
            return
        self.data.reshape(shape)
        if self.cont is not None:
            self.cont.reshape(shape)
        for blob in self.others:
            if blob.shape[0] != shape[1]:
                first = self.engine.copy(blob.data[:1, ...])
                blob.reshape((shape[1], *blob.shape[1:]))
                blob.data[...] = first
        self.net.reshape()
        if len(self.output.shape) != 3 or self.output.shape[:2] != shape:
            raise ShapeError(
                f'the output "{self.net.outputs[-1]}" is {self.output.shape} for tokens {shape}',
                hint="It must be (T, N, V): a score for each token that may come next, at every step.",
            )


def _check(layer: Layer) -> None:
    """Raises ConfigError for a recurrent layer that cannot go on from its own states."""
    p = layer.param.recurrent_param
    if p.direction != RecurrentParameter.FORWARD:
        raise ConfigError(
            f'layer "{layer.name}" also reads from the end, which is not there while a sequence is made',
            hint="Train with direction: FORWARD.",
        )
    if p.expose_hidden:
        raise ConfigError(
            f'layer "{layer.name}" is given its states, so that it keeps none', hint="Leave out expose_hidden."
        )
