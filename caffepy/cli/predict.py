"""caffepy predict: what a served model says of pictures."""

from __future__ import annotations

from pathlib import Path

import click

from caffepy.cli import options


@click.command(help="Ask a model server what pictures show: label and score of the best classes, a line a picture.")
@click.option("--server", required=True, help="HOST:PORT of its gRPC, or http://HOST:PORT of its REST.")
@click.option("--model", required=True, help="Name of the model.")
@click.option("--version", type=int, help="Version of the model (default: the server's choice).")
@click.option("--label", default="", help="Label of the version.")
@click.option("--token-file", default="", help="File whose first line is an API token.")
@options.max_memory
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
def command(server, model, version, label, token_file, pictures):
    from caffepy.cli import terminal
    from caffepy.data.pictures.image import read_file
    from caffepy.proto.text import read_text
    from caffepy.serve.client import Client, RestClient

    if version is not None and label:
        raise click.UsageError("--version and --label are both given: keep one of the two")
    token = read_text(token_file).partition("\n")[0].strip() if token_file else ""
    data = [read_file(path) for path in pictures]
    kind = RestClient if "://" in server else Client
    with kind(server, token=token) as client:
        rows = client.classify(model, data, version=version, label=label)
    for path, row in zip(pictures, rows):
        found = ", ".join(f"{name} {score:.4f}" for name, score in row)
        terminal.echo(f"{Path(path).name}: {found}")
