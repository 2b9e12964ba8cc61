"""caffepy generate: text that goes on from a prompt."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@options.model()
@click.option("--weights", required=True, help='Trained weights, separated by ",".')
@click.option("--prompt", default="", help="What the text begins with (default: a line break).")
@click.option("--length", type=click.IntRange(min=1), default=500, show_default=True, help="Tokens to make.")
@click.option("--temperature", type=float, help="Below 1 likely tokens become likelier; 0 takes the best (default: 1).")
@click.option("--top-k", type=click.IntRange(min=0), help="Draw from so many best tokens (default: all).")
@click.option("--top-p", type=float, help="Draw from the best tokens that have this share of the probability.")
@click.option("--beam", type=click.IntRange(min=1), default=1, help="Instead: beam search with so many sequences.")
@click.option("--seed", type=click.IntRange(min=0), help="The same text for the same seed.")
@click.option("--stop", default="", help="The token that ends the text.")
@click.option("--vocabulary", default="", help="vocabulary.json (default: the one that the weights name).")
@options.gpu
@options.engine
@options.max_memory
@options.no_python_layers
@options.force
@options.imports
@options.setting()
def command(model, weights, prompt, length, temperature, top_k, top_p, beam, seed, stop, vocabulary, gpu, engine):
    """Let a net trained on text go on from a prompt, and show the text as it is made.

    The model is the net for deployment: tokens (T, N) in, scores of the next token (T, N, V) out.
    """
    from caffepy.cli import terminal
    from caffepy.generate import known, texts
    from caffepy.generate.sampling import Sampling
    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import TEST

    chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    sampling = Sampling(**{name: value for name, value in chosen.items() if value is not None})
    wanted = texts.TextRequest(length, sampling, beam, seed, stop)
    net = Net(model, TEST, weights=weights, engine=options.choose_engine(engine, gpu))
    found = texts.pieces(net, known.find(model, weights, vocabulary), prompt, wanted)
    with terminal.writing() as write:
        write(prompt)
        for piece in found:
            write(piece)
