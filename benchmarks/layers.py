"""Milliseconds that each layer type takes, forward and backward, at a size that is typical for it.

python benchmarks/layers.py [--layer Convolution] [--engine numpy] [--seconds 0.3]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from caffepy.engine import get_engine
from caffepy.errors import CaffeError
from caffepy.net.blob import Blob
from caffepy.net.layer import create, layer_types
from caffepy.proto import caffe_pb2, text

IMAGE = (64, 64, 56, 56)
WIDE = (32, 256, 28, 28)
CLASSES = (256, 1000)
LOSS = [CLASSES, ("index 1000", (256,))]
SEQUENCE = [(20, 32, 256), ("fixed", (20, 32))]

# type: bottoms (a shape, or a kind of values and a shape), fields, number of tops
LAYERS = {
    "AbsVal": ([IMAGE], ""),
    "Accuracy": (LOSS, "accuracy_param { top_k: 5 }"),
    "ArgMax": ([CLASSES], "argmax_param { top_k: 5 }"),
    "Axpy": ([(64, 64), IMAGE, IMAGE], ""),
    "BN": ([IMAGE], ""),
    "BNLL": ([IMAGE], ""),
    "BatchNorm": ([IMAGE], ""),
    "BatchReindex": ([IMAGE, ("index 64", (64,))], ""),
    "Bias": ([IMAGE], ""),
    "CenterLoss": ([(256, 512), ("index 1000", (256,))], "center_loss_param { num_output: 1000 }"),
    "Clip": ([IMAGE], "clip_param { min: -1 max: 1 }"),
    "Concat": ([WIDE, WIDE], ""),
    "ContrastiveLoss": ([CLASSES, CLASSES, ("index 2", (256,))], ""),
    "Convolution": ([IMAGE], "convolution_param { num_output: 64 kernel_size: 3 pad: 1 }"),
    "ConvolutionDepthwise": ([IMAGE], "convolution_param { kernel_size: 3 pad: 1 }"),
    "Crop": ([IMAGE, ("fixed", (64, 64, 48, 48))], "crop_param { offset: 4 }"),
    "Deconvolution": ([WIDE], "convolution_param { num_output: 64 kernel_size: 4 stride: 2 pad: 1 }"),
    "Dropout": ([(256, 4096)], ""),
    "DummyData": ([], "dummy_data_param { shape { dim: 64 dim: 3 dim: 224 dim: 224 } }"),
    "ELU": ([IMAGE], ""),
    "Eltwise": ([IMAGE, IMAGE], ""),
    "Embed": ([("index 10000", (64, 100))], "embed_param { num_output: 256 input_dim: 10000 }"),
    "EuclideanLoss": ([CLASSES, CLASSES], ""),
    "Exp": ([IMAGE], ""),
    "Filter": ([IMAGE, ("index 2", (64,))], ""),
    "Flatten": ([IMAGE], ""),
    "GELU": ([IMAGE], ""),
    "HardSigmoid": ([IMAGE], ""),
    "HardSwish": ([IMAGE], ""),
    "HingeLoss": (LOSS, ""),
    "Im2col": ([(16, 64, 56, 56)], "convolution_param { kernel_size: 3 pad: 1 }"),
    "InfogainLoss": ([(256, 100), ("index 100", (256,)), ("fixed", (1, 1, 100, 100))], ""),
    "InnerProduct": ([(128, 4096)], "inner_product_param { num_output: 1000 }"),
    "Interp": ([(4, 150, 60, 60)], "interp_param { height: 473 width: 473 }"),
    "LRN": ([IMAGE], ""),
    "LSTM": (SEQUENCE, "recurrent_param { num_output: 256 }"),
    "LSTMUnit": ([(1, 256, 256), (1, 256, 1024), ("fixed", (1, 256))], "", 2),
    "LayerNorm": ([(32, 128, 768)], ""),
    "Log": ([("positive", IMAGE)], ""),
    "MVN": ([IMAGE], ""),
    "Mish": ([IMAGE], ""),
    "MultinomialLogisticLoss": ([("positive", CLASSES), ("index 1000", (256,))], ""),
    "PReLU": ([IMAGE], ""),
    "Parameter": ([], "parameter_param { shape { dim: 1000 dim: 1000 } }"),
    "Pooling": ([IMAGE], "pooling_param { kernel_size: 3 stride: 2 }"),
    "Power": ([IMAGE], "power_param { power: 2 scale: 0.5 shift: 1 }"),
    "RNN": (SEQUENCE, "recurrent_param { num_output: 256 }"),
    "ReLU": ([IMAGE], ""),
    "ReLU6": ([IMAGE], ""),
    "Reduction": ([IMAGE], "reduction_param { axis: 1 }"),
    "Reshape": ([IMAGE], "reshape_param { shape { dim: 0 dim: -1 } }"),
    "SPP": ([WIDE], "spp_param { pyramid_height: 3 }"),
    "Scale": ([IMAGE], "scale_param { bias_term: true }"),
    "SeLu": ([IMAGE], ""),
    "SegAccuracy": ([(4, 21, 120, 120), ("index 21", (4, 1, 120, 120))], ""),
    "ShuffleChannel": ([IMAGE], "shuffle_channel_param { group: 4 }"),
    "Sigmoid": ([IMAGE], ""),
    "SigmoidCrossEntropyLoss": ([CLASSES, ("index 2", CLASSES)], ""),
    "Silence": ([IMAGE], "", 0),
    "Slice": ([IMAGE], "", 2),
    "Softmax": ([CLASSES], ""),
    "SoftmaxWithLoss": (LOSS, ""),
    "Split": ([IMAGE], "", 2),
    "Swish": ([IMAGE], ""),
    "TanH": ([IMAGE], ""),
    "Threshold": ([IMAGE], ""),
    "Tile": ([CLASSES], "tile_param { tiles: 4 }"),
    "TripletLoss": ([CLASSES, CLASSES, CLASSES], ""),
    "Unpooling": ([WIDE], "unpooling_param { kernel_size: 2 stride: 2 }"),
    "Upsample": ([WIDE, ("index 3136", WIDE)], ""),
}


def values(spec) -> np.ndarray:
    random = np.random.default_rng(1)
    kind, shape = spec if isinstance(spec[0], str) else ("normal", spec)
    if kind == "positive":
        return random.random(shape, np.float32) + 0.1
    if kind.startswith("index"):
        return random.integers(0, int(kind.split()[1]), shape).astype(np.float32)
    return random.standard_normal(shape, np.float32)


def mean_time(call, seconds: float) -> float:
    """Milliseconds a call, over at least `seconds`, after one that is not counted."""
    call()
    count, spent, start = 0, 0.0, time.perf_counter()
    while spent < seconds:
        call()
        count += 1
        spent = time.perf_counter() - start
    return 1000 * spent / count


def measure(layer_type: str, engine, seconds: float) -> tuple[float, float | None]:
    """Milliseconds forward and backward; None for a layer without gradient."""
    specs, fields, *tops = LAYERS[layer_type]
    param = text.parse(f'type: "{layer_type}" {fields}', caffe_pb2.LayerParameter())
    layer = create(param, caffe_pb2.TRAIN, engine)
    bottom = [Blob(values(spec).shape, engine) for spec in specs]
    for blob, spec in zip(bottom, specs):
        blob.data[...] = engine.asarray(values(spec))
    top = [Blob((), engine) for _ in range(tops[0] if tops else 1)]
    layer.set_up(bottom, top)
    for blob in layer.blobs:
        blob.data[...] = engine.asarray(0.05 * values(("normal", blob.shape)))
    wanted = [isinstance(spec[0], int) or spec[0] == "positive" for spec in specs]
    forward = mean_time(lambda: layer.forward(bottom, top), seconds)
    for blob in top:
        blob.diff[...] = 1
    try:
        return forward, mean_time(lambda: layer.backward(top, wanted, bottom), seconds)
    except CaffeError:
        return forward, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layer", action="append", metavar="NAME", help="measure this type alone; may be repeated")
    parser.add_argument("--engine", default="numpy", help="numpy (default) or torch")
    parser.add_argument("--seconds", type=float, default=0.3, help="at least so long a measurement (0.3)")
    options = parser.parse_args()
    engine = get_engine(options.engine)
    names = options.layer or [name for name in layer_types() if name in LAYERS]
    if unknown := set(names) - set(LAYERS):
        parser.error(f"no size is written down for {', '.join(sorted(unknown))}; known: {', '.join(LAYERS)}")
    print(f"{'layer':<24} {'forward ms':>10} {'backward ms':>11}  bottoms")
    for name in names:
        forward, backward = measure(name, engine, options.seconds)
        shapes = ", ".join("x".join(map(str, values(spec).shape)) for spec in LAYERS[name][0])
        print(
            f"{name:<24} {forward:>10.3f} {'-' if backward is None else f'{backward:.3f}':>11}  {shapes}",
            flush=True,
        )


if __name__ == "__main__":
    main()
