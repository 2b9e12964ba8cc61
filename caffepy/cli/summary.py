"""caffepy summary: a net layer by layer."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("net")
@click.option("--phase", type=options.choice(["TRAIN", "TEST"]), default="TEST", show_default=True, help="Of the net.")
@options.level
@options.stage
@options.shapes
@click.option("--batch", type=click.IntRange(min=1), help="Items that sources have (default: as they say).")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: sizes in bytes, all operations.")
@options.setting()
@options.max_memory
@options.no_python_layers
@options.imports
def command(net, phase, level, stage, shapes, batch, as_json):
    """Print the layers of NET with shapes, parameters, GFLOP, memory and receptive field.

    Data need not be there: shapes of sources that are absent come from --shape, from what the definition says of
    crops, or from the inputs of a deploy net beside it. GFLOP are those of products and convolutions in one forward
    pass over the batch; memory is that of values and of gradients that backward needs, in MB; the receptive field is
    the height and width of the input that a value sees.
    """
    import json

    from caffepy.cli import terminal
    from caffepy.proto import text
    from caffepy.proto.caffe_pb2 import NetState, Phase
    from caffepy.show.draft import Sources, draft
    from caffepy.show.summary import Summary

    definition = text.read_net(net)
    state = NetState(level=level, stage=[*definition.param.state.stage, *options.stages(stage)])
    state.phase = Phase.Value(phase)
    sources = Sources(shapes, batch or 0, near=[net])
    built = draft(definition, state, sources)
    for problem in built.problems:
        raise problem.error
    sources.check_used()
    summary = Summary.of(built)
    if as_json:
        terminal.echo(json.dumps(summary.as_dict(), indent=1))
    elif terminal.is_terminal():
        terminal.show(summary.title, summary.table(), summary.totals)
    else:
        terminal.echo(str(summary))
