"""caffepy draw-filters: a picture of a net's insides."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@options.model()
@click.option("--weights", required=True, help='Trained weights, separated by ",".')
@click.option("--layer", default="", help="Of this layer, or with --picture of this blob (default: the first).")
@click.option("--picture", help="Draw what this picture becomes in the blob: its feature maps.")
@click.option("--occlusion", is_flag=True, help="Draw which places of --picture the best class depends on.")
@click.option("--size", type=click.IntRange(min=1), default=16, show_default=True, help="Side of what is covered.")
@click.option("--stride", type=click.IntRange(min=1), default=8, show_default=True, help="From one square to the next.")
@click.option("--class", "which", type=click.IntRange(min=0), help="Of the occlusion map, in place of the best class.")
@click.option("--like", metavar="NET", help="Prepare the picture as the TEST data layer of this net.")
@options.gpu
@options.engine
@options.imports
@options.setting()
@options.max_memory
@options.no_python_layers
@options.force
@click.argument("output")
def command(model, weights, layer, picture, occlusion, size, stride, which, like, gpu, engine, output):
    """Draw a net's filters, maps and reasons.

    Without --picture the filters of a layer go to OUTPUT (.png, .jpg, ...), by default those of the first. With it the
    feature maps of a picture, or with --occlusion how much less sure the net is where a square of it is covered: the
    picture, and beside it in red what the answer depends on. Pictures are prepared as by predict.
    """
    from caffepy.arrays.pictures import prepared
    from caffepy.cli import terminal
    from caffepy.data.pictures.image import encoder, read_file
    from caffepy.files import check_writable
    from caffepy.proto.caffe_pb2 import TEST, TransformationParameter
    from caffepy.show import insides

    terminal.start_logging()
    if occlusion and not picture:
        raise click.UsageError("--occlusion is missing --picture: the picture to cover parts of")
    check_writable(output)
    encoder(output.rpartition(".")[2])
    net = options.inference_net(model, TEST, 0, "", weights, engine, gpu)
    if not picture:
        drawn = insides.filters(net, layer)
    else:
        x = prepared(net, model, like, TransformationParameter(), None, False)(read_file(picture), picture)
        if occlusion:
            heat = insides.occlusion(net, x, size, stride, layer or net.outputs[0], which)
            drawn = insides.overlay(x, heat)
        else:
            maps = (node.top_names[0] for node in net.nodes if node.layer.blobs and len(node.top[0].shape) == 4)
            drawn = insides.feature_maps(net, x, layer or next(maps, net.outputs[0]))
    insides.save(drawn, output)
    terminal.echo(f"{output}: {drawn.shape[2]} x {drawn.shape[1]} pixels")
