"""caffepy check: what definitions would do."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@options.shapes
@options.setting(of_net=False)
@click.option("--weights", default="", help='Trained weights to check against the nets, separated by ",".')
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for editors and CI.")
@options.max_memory
@options.no_python_layers
@options.imports
def command(files, shapes, weights, as_json):
    """Check nets and solvers of any age and any Caffe, without their data.

    Each FILE is read, upgraded, and built in every phase and stage. Told are layers that cannot be built, weights that
    do not fit, files that are not here, gradients that are lost, parameters that are never updated, blobs that nobody
    reads, learning rates that never decay, tests that never run: each with file, line and column, and what to do. The
    exit status is 1 if something could not train or run. What is absent is reported, and is no failure; shapes of
    absent data come from --shape, from what the definition says of crops, or from the inputs of a deploy net beside it.
    """
    from caffepy.cli import terminal
    from caffepy.show.lint import check, report

    reviews = check(files, shapes, [path.strip() for path in weights.split(",") if path.strip()])
    if as_json:
        terminal.echo(report.as_json(reviews))
    elif terminal.is_terminal():
        terminal.show(*report.page(reviews))
    else:
        for line in report.lines(reviews):
            terminal.echo(line)
    if any(review.fails for review in reviews):
        raise SystemExit(1)
