"""caffepy export: a net with its weights as ONNX."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.export")


@click.command(
    help="Write a deploy net with its weights as ONNX, and compare what onnxruntime computes with it to ours."
)
@options.model()
@click.option("--weights", default="", help='Trained weights, separated by ",".')
@click.option("--output", required=True, help="The ONNX file.")
@click.option("--opset", type=int, help="Of ONNX's operators (default: the newest that onnxruntime here runs).")
@click.option("--dynamic-batch/--no-dynamic-batch", default=True, show_default=True, help="Take batches of any size.")
@click.option("--half", is_flag=True, help="Store weights and compute in float16.")
@click.option("--with-transform", is_flag=True, help="Build in --mean, --scale and --rgb.")
@click.option("--mean", default="", help='With --with-transform: a .binaryproto or .npy file, or "104,117,123".')
@click.option("--scale", default=1.0, show_default=True, help="With --with-transform: a factor after the mean.")
@click.option("--rgb", is_flag=True, help="With --with-transform: pictures come as RGB, the net takes BGR.")
@options.level
@options.stage
@options.max_memory
@options.no_python_layers
@options.force
@options.imports
@options.setting()
def command(model, weights, output, opset, dynamic_batch, half, with_transform, mean, scale, rgb, level, stage):
    from caffepy.cli import terminal
    from caffepy.export.onnx_file import NEWEST, OLDEST, ExportOptions, export
    from caffepy.export.transform import Transform, read_mean
    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import TEST

    terminal.start_logging()
    if opset is not None and not OLDEST <= opset <= NEWEST:
        raise click.UsageError(f"--opset is a number from {OLDEST} to {NEWEST}, got {opset}")
    if not with_transform and (mean or rgb or scale != 1):
        raise click.UsageError("--mean, --scale and --rgb count with --with-transform: add it")
    net = Net(model, TEST, level, options.stages(stage), weights=weights or None)
    if not weights:
        log.warning("Exporting the initial weights: give the trained ones with --weights")
    transform = Transform(read_mean(mean) if mean else None, scale, rgb) if with_transform else None
    found = export(net, output, ExportOptions(opset, dynamic_batch, half, transform))
    for name, largest in found.items():
        terminal.echo(f"{name}: largest difference to caffepy {largest:.3g}")
    terminal.echo(f"Wrote {output}")
