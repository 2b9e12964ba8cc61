"""Forward passes of deploy nets: NumPy, onnxruntime, PyTorch eager and OpenCV's dnn, beside each other.

    python benchmarks/inference.py [--nets half_resnet50,googlenet] [--batches 1,32] [--rounds 7] [--json FILE]

`half_resnet50` is a ResNet-50 of half the width, as open_nsfw is. Every contender runs in a process of its own with all
cores, and the rounds alternate between them; what is said of one is its best pass, in milliseconds and in those of all
cores together, and in brackets how many times OpenCV's.
OpenCV reads the prototxt where it still can (4.x; OPENCV_PYTHON names an interpreter that has it beside caffepy), else
the ONNX file that `caffepy export` writes. PyTorch runs the same graph eagerly.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
GOOGLENET = HERE.parent / "models" / "bvlc_googlenet" / "deploy.prototxt"


def convolution(name: str, bottom: str, outputs: int, kernel: int, stride: int = 1, pad: int = 0) -> str:
    """With BatchNorm and Scale, as residual nets have it."""
    return f"""
    layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{
            num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {pad} bias_term: false
            weight_filler {{ type: "msra" }} }} }}
    layer {{ name: "bn_{name}" type: "BatchNorm" bottom: "{name}" top: "{name}" }}
    layer {{ name: "scale_{name}" type: "Scale" bottom: "{name}" top: "{name}" scale_param {{ bias_term: true }} }}
    """


def relu(blob: str) -> str:
    return f'layer {{ name: "relu_{blob}" type: "ReLU" bottom: "{blob}" top: "{blob}" }}\n'


def half_resnet50() -> str:
    text = """name: "half_resnet50"
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }
    """
    text += convolution("conv1", "data", 64, 7, 2, 3) + relu("conv1")
    text += """layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                       pooling_param { pool: MAX kernel_size: 3 stride: 2 } }"""
    x = "pool1"
    for stage, (width, blocks) in enumerate(((32, 3), (64, 4), (128, 6), (256, 3)), 2):
        for block in range(blocks):
            name, stride, short = f"res{stage}_{block}", 1 + (stage > 2 and not block), x
            if not block:
                short = f"{name}_short"
                text += convolution(short, x, 4 * width, 1, stride)
            text += convolution(f"{name}_a", x, width, 1, stride) + relu(f"{name}_a")
            text += convolution(f"{name}_b", f"{name}_a", width, 3, 1, 1) + relu(f"{name}_b")
            text += convolution(f"{name}_c", f"{name}_b", 4 * width, 1)
            text += f'layer {{ name: "{name}" type: "Eltwise" bottom: "{short}" bottom: "{name}_c" top: "{name}" }}\n'
            text += relu(name)
            x = name
    return (
        text
        + f"""
    layer {{ name: "pool" type: "Pooling" bottom: "{x}" top: "pool"
            pooling_param {{ pool: AVE global_pooling: true }} }}
    layer {{ name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {{
            num_output: 2 weight_filler {{ type: "xavier" }} }} }}
    layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}
    """
    )


NETS = {"half_resnet50": half_resnet50, "googlenet": GOOGLENET.read_text}


def write(name: str, folder: str) -> None:
    """The net's prototxt, its caffemodel with random weights, and its ONNX file."""
    import caffepy
    from caffepy.export.onnx_file import export

    path = Path(folder, f"{name}.prototxt")
    path.write_text(NETS[name]())
    net = caffepy.Net(str(path), caffepy.TEST)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob, value in zip(layer.blobs, (0.0, 1.0, 1.0)):
                blob.data[...] = value
    net.blobs["data"].reshape(1, 3, 224, 224)
    net.save(str(path.with_suffix(".caffemodel")))
    export(net, path.with_suffix(".onnx"))


def forward_of(contender: str, path: Path, batch: int):
    """A function that runs one forward pass."""
    x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)
    files = str(path), str(path.with_suffix(".caffemodel"))
    if contender == "opencv":
        import cv2

        old = hasattr(cv2.dnn, "readNetFromCaffe")
        net = cv2.dnn.readNetFromCaffe(*files) if old else cv2.dnn.readNetFromONNX(str(path.with_suffix(".onnx")))

        def run():
            net.setInput(x)
            return net.forward()

        return run
    import caffepy

    if contender == "pytorch":
        return _eager(files, x)
    net = caffepy.Net(files[0], caffepy.TEST, weights=files[1], engine=contender)
    net.blobs["data"].reshape(*x.shape)
    net.blobs["data"].data[...] = x
    return net.forward


def _eager(files: tuple[str, str], x: np.ndarray):
    """The net's layers as calls of PyTorch's functions."""
    import torch

    import caffepy

    net = caffepy.Net(files[0], caffepy.TEST, weights=files[1])
    steps = [(node.layer, node.bottom_names, node.top_names) for node in net.nodes]
    weights = {layer.name: [torch.from_numpy(blob.host().copy()) for blob in layer.blobs] for layer in net.layers}
    given = torch.from_numpy(x)

    def run():
        values = {"data": given}
        with torch.inference_mode():
            for layer, bottoms, tops in steps:
                if layer.type != "Input":
                    y = _computed(torch, layer, [values[name] for name in bottoms], weights[layer.name])
                    values.update(dict.fromkeys(tops, y))
        return values

    return run


def _computed(torch, layer, x: list, w: list):
    functional, kind = torch.nn.functional, layer.type
    if kind == "Convolution":
        p = layer.window
        return functional.conv2d(x[0], *w, stride=p.stride, padding=p.pad, groups=layer.param.convolution_param.group)
    if kind == "BatchNorm":
        return functional.batch_norm(x[0], w[0] / w[2], w[1] / w[2], eps=layer.param.batch_norm_param.eps)
    if kind == "Scale":
        return x[0] * w[0].reshape(1, -1, 1, 1) + w[1].reshape(1, -1, 1, 1)
    if kind == "InnerProduct":
        return functional.linear(x[0].flatten(1), *w)
    if kind == "Eltwise":
        return x[0] + x[1]
    if kind == "Pooling":
        if layer.param.pooling_param.global_pooling:
            return x[0].mean((2, 3), keepdim=True)
        p = layer.window
        pool = functional.avg_pool2d if layer.method == layer.param.pooling_param.AVE else functional.max_pool2d
        return pool(x[0], p.kernel, p.stride, p.pad, ceil_mode=True)
    if kind == "LRN":
        p = layer.param.lrn_param
        return functional.local_response_norm(x[0], p.local_size, p.alpha, p.beta, p.k)
    if kind == "Concat":
        return torch.cat(x, 1)
    return {"ReLU": torch.relu, "Softmax": lambda v: v.softmax(1)}.get(kind, lambda v: v)(x[0])


def serve(contender: str, path: Path, batch: int) -> None:
    """Time a pass for each line that comes, and say how many milliseconds it took, and of all cores' time."""
    run = forward_of(contender, path, batch)
    for _ in range(2):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        run()
        print((time.perf_counter() - start) * 1000, (time.process_time() - used) * 1000, flush=True)


def measure(path: Path, batch: int, rounds: int) -> dict[str, list[float]]:
    """Of each contender the best of so many passes, taken in turns: milliseconds, and those of all cores together."""
    processes = {}
    for contender, python in contenders().items():
        args = [python, __file__, "--serve", contender, str(path), str(batch)]
        processes[contender] = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    best: dict[str, list[float]] = {}
    for process in processes.values():
        process.stdout.readline()
    for _ in range(rounds):
        for contender, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            took = [float(number) for number in process.stdout.readline().split()]
            best[contender] = [min(pair) for pair in zip(took, best.get(contender, took))]
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return best


def shown(best: dict[str, list[float]]) -> list[str]:
    """Milliseconds, and in brackets how many times OpenCV's; then the same of all cores' time."""
    reference = best.get("opencv")
    said = []
    for name, both in best.items():
        times = [f"{ms:.1f}" + (f" ({ms / of:.2f})" if reference else "") for ms, of in zip(both, reference or both)]
        said.append(f"{name} {times[0]} ms, cores {times[1]} ms")
    return said


def contenders() -> dict[str, str]:
    """Those that are installed, and the interpreter that each runs in."""
    found = {"numpy": sys.executable}
    for name, package in (("onnxruntime", "onnxruntime"), ("pytorch", "torch"), ("opencv", "cv2")):
        if importlib.util.find_spec(package):
            found[name] = sys.executable
    if "OPENCV_PYTHON" in os.environ:
        found["opencv"] = os.environ["OPENCV_PYTHON"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        contender, path, batch = args.serve
        serve(contender, Path(path), int(batch))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.nets.split(","):
            write(name, folder)
            for batch in map(int, args.batches.split(",")):
                best = measure(Path(folder, f"{name}.prototxt"), batch, args.rounds)
                print(f"{name}, batch {batch}: " + ", ".join(shown(best)), flush=True)
                results[f"{name}/{batch}"] = best
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
