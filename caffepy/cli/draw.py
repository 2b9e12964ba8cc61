"""caffepy draw: a picture of a net."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command(help="Draw the net of a prototxt: OUT ends in .svg, .dot, or with Graphviz .png, .pdf, ...")
@click.argument("net", metavar="NET")
@click.argument("out", metavar="OUT")
@click.option("--rankdir", type=options.choice(["LR", "TB", "BT", "RL"]), default="LR", help="Direction (Graphviz).")
@click.option(
    "--phase", type=options.choice(["TRAIN", "TEST", "ALL"]), default="ALL", show_default=True, help="Of which net."
)
@click.option("--display-lrm", is_flag=True, help="Show the factors of the learning rate.")
@options.max_memory
@options.imports
@options.setting()
def command(net, out, rankdir, phase, display_lrm):
    from caffepy.cli.terminal import echo
    from caffepy.proto.caffe_pb2 import Phase
    from caffepy.show import draw

    draw.draw_net_to_file(net, out, rankdir, None if phase == "ALL" else Phase.Value(phase), display_lrm)
    echo(f"Drawing net to {out}")
