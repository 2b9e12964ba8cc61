"""caffepy extract-features: what a net computes, to databases."""

from __future__ import annotations

import logging
import os

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.extract_features")


@click.command()
@click.argument("weights")
@click.argument("model")
@click.argument("blobs")
@click.argument("dbs")
@click.argument("batches", type=click.IntRange(min=1))
@click.argument("backend", type=options.choice(["lmdb", "leveldb"]))
@click.argument("mode", type=options.choice(["CPU", "GPU"]), default="CPU")
@click.argument("device", type=click.IntRange(min=0), default=0, required=False)
@options.engine
@options.precision
@options.max_memory
@options.no_python_layers
@options.force
@options.imports
@options.setting()
def command(weights, model, blobs, dbs, batches, backend, mode, device, engine, precision):
    """Run MODEL with WEIGHTS on BATCHES batches and store its BLOBS in the databases DBS (both separated by ",").

    A record is a Datum of float_data, its key the number of the item. The net runs in phase TEST. DEVICE is the number
    of the GPU, where the mode is GPU.
    """
    from contextlib import ExitStack
    from math import prod

    import numpy as np

    from caffepy import passes
    from caffepy.cli import terminal
    from caffepy.data.sources.databases import create_database
    from caffepy.errors import ConfigError
    from caffepy.net.named import unknown
    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import TEST, Datum

    if model.endswith((".caffemodel", ".h5")):
        raise click.UsageError(f"MODEL is a file of weights, {model}: WEIGHTS comes first, then MODEL")
    handler = terminal.start_logging()
    names, paths = blobs.split(","), dbs.split(",")
    if len(names) != len(paths):
        raise click.UsageError(f"{len(names)} blob(s) but {len(paths)} database(s): give one for each")
    if len({os.path.abspath(path) for path in paths}) < len(paths):
        raise click.UsageError(f"the databases {dbs} are not all different")
    if mode == "GPU" and engine == "numpy":
        raise click.UsageError(
            "the mode GPU needs the torch engine, but --engine numpy is given: leave out one of the two"
        )
    log.info("Using %s", mode)
    chosen = options.choose_engine(engine, str(device) if mode == "GPU" else "", precision=precision)
    net = Net(model, TEST, weights=weights, engine=chosen)
    for name in names:
        if name not in net.engine_blobs:
            error = unknown("blob", name, net.engine_blobs)
            raise ConfigError(error.message, where=model, hint=error.hint)
    log.info("Extracting Features")
    counts = dict.fromkeys(paths, 0)
    with ExitStack() as stack:
        puts = [stack.enter_context(create_database(path, backend)) for path in paths]
        advance = stack.enter_context(terminal.progress(handler, "extracting", batches))
        for done in range(1, batches + 1):
            passes.of(net).forward()
            net.settle()
            for name, path, put in zip(names, paths, puts):
                blob = net.engine_blobs[name]
                values = np.asarray(blob.host(), np.float32).reshape(blob.num, prod(blob.shape[1:]))
                shape = {"channels": blob.channels, "height": blob.height, "width": blob.width}
                for item in values:
                    datum = Datum(**shape)
                    datum.float_data.extend(item)
                    put(b"%010d" % counts[path], datum.SerializeToString())
                    counts[path] += 1
                    if counts[path] % 1000 == 0:
                        log.info("Extracted features of %d query images for feature blob %s", counts[path], name)
            advance(done)
    for name, path in zip(names, paths):
        if counts[path] % 1000:
            log.info("Extracted features of %d query images for feature blob %s", counts[path], name)
    log.info("Successfully extracted the features!")
