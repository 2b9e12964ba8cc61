#!/usr/bin/env python3
"""Stands in for C++ Caffe's `caffe time` where Caffe cannot be built: the same work, written anew (caffe_like.cpp).

    CAFFE_BIN=benchmarks/caffe_like.py make bench

Needs g++ and OpenBLAS with its headers (Debian: apt install g++ libopenblas-dev). Knows the layers of the five nets.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from caffepy.pycaffe.net import Net

SOURCE = Path(__file__).with_suffix(".cpp")
# Caffe's own Makefile says -O2.
COMPILE = ("g++", "-O2", "-DNDEBUG", str(SOURCE), "-lopenblas", "-o")


def plan(net: Net) -> str:
    """A line a layer: type, bottoms and whether they need gradients, tops, parameters."""
    lines = []
    for i in range(len(net.layers)):
        bottoms, wanted = net.nodes[i].bottom_names, net.nodes[i].bottom_need_backward
        tops = net.nodes[i].top_names
        kind, numbers = parameters(net, i)
        words = [kind, len(bottoms), *(word for pair in zip(bottoms, map(int, wanted)) for word in pair)]
        lines.append(" ".join(map(str, [*words, len(tops), *tops, *numbers])))
    return "\n".join(lines) + "\n"


def parameters(net: Net, i: int) -> tuple[str, list]:
    """The type of layer i and the numbers that caffe_like.cpp reads for it."""
    layer, top = net.layers[i], net.nodes[i].top
    match layer.type:
        case "DummyData":
            return "Data", [n for blob in top for n in (*blob.shape, 1, 1, 1)[:4]]
        case "Convolution":
            p, window = layer.param.convolution_param, layer.window
            return layer.type, [p.num_output, window.kernel[0], window.stride[0], window.pad[0], p.group]
        case "Pooling":
            window = layer.window
            kind = int(layer.param.pooling_param.pool == layer.param.pooling_param.AVE)
            return layer.type, [kind, window.kernel[0], window.stride[0], window.pad[0], *top[0].shape[2:]]
        case "LRN":
            p = layer.param.lrn_param
            if p.norm_region == p.WITHIN_CHANNEL:
                return "LRNWithin", [p.local_size, p.alpha, p.beta]
            return layer.type, [p.local_size, p.alpha, p.beta, p.k]
        case "InnerProduct":
            return layer.type, [layer.param.inner_product_param.num_output]
        case "Dropout":
            return layer.type, [layer.param.dropout_param.dropout_ratio]
    return layer.type, []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["time"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--iterations", type=int, default=50)
    args = parser.parse_args()
    text = plan(Net(args.model, 0))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*COMPILE, f"{folder}/caffe_like"], check=True)
        Path(folder, "plan").write_text(text)
        subprocess.run([f"{folder}/caffe_like", f"{folder}/plan", str(args.iterations)], check=True)


if __name__ == "__main__":
    main()
