"""caffepy serve: trained nets behind gRPC and REST."""

from __future__ import annotations

import click

from caffepy.cli import options


def _switch(name: str, default: bool, help: str):
    """A flag that may also be given as --name=true or --name=false, as TensorFlow Serving's are."""
    return click.option(
        name, type=bool, is_flag=False, flag_value="true", default=default, show_default=True, help=help
    )


@click.command(
    help="Serve trained nets to clients of TensorFlow Serving and of KServe and Triton. "
    "Flags have TensorFlow Serving's names, where it has them."
)
@click.option("--model-name", default="", help="Name of the model, with --model-base-path.")
@click.option("--model-base-path", default="", help="Folder, or URL, of its versions: BASE/1, BASE/2, ...")
@click.option("--model-config-file", default="", help="Several models: a ModelServerConfig as text.")
@click.option(
    "--model-config-file-poll-wait-seconds", default=1.0, show_default=True, help="How often it is read. 0: once."
)
@click.option("--port", type=int, default=8500, show_default=True, help="Of gRPC; -1 for none, 0 for any.")
@click.option("--rest-api-port", type=int, default=8501, show_default=True, help="Of REST; -1 for none, 0 for any.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--file-system-poll-wait-seconds", default=1.0, show_default=True, help="How often new versions are looked for."
)
@click.option(
    "--canary", multiple=True, metavar="MODEL=VERSION:PERCENT%", help="A share of the requests. May be given again."
)
@_switch("--allow-version-labels-for-unavailable-models", False, "Labels may be given before their version is loaded.")
@_switch("--enable-batching", True, "Compute requests together that wait at the same time.")
@click.option("--batching-parameters-file", default="", help="BatchingParameters as text.")
@click.option("--monitoring-config-file", default="", help="MonitoringConfig as text.")
@click.option("--ssl-config-file", default="", help="SSLConfig as text: keys and certificates.")
@click.option("--api-token-file", default="", help="Requests must bring a token of this file, one a line.")
@click.option("--max-message-size", default="64M", show_default=True, help="Of a request or reply, below 2G.")
@click.option("--rest-api-timeout-in-ms", default=30000, show_default=True, help="Of a REST request. 0: none.")
@click.option("--drain-seconds", default=30.0, show_default=True, help="For requests that are there at SIGTERM.")
@click.option("--unload-first", is_flag=True, help="Unload a version before the next is loaded, to save memory.")
@click.option("--num-load-threads", default=1, show_default=True, help="Versions that are loaded at once.")
@click.option(
    "--load-retry-interval-micros", default=1_000_000, show_default=True, help="First pause after a load that failed."
)
@_switch(
    "--enable-serialization-as-tensor-content", False, "Replies of Predict hold bytes instead of lists of numbers."
)
@click.option("--workers", default=1, show_default=True, help="Processes that share the ports.")
@click.option(
    "--engine",
    type=options.choice(["onnxruntime", "numpy", "torch"]),
    help="What computes on the CPU (default: the fastest there is).",
)
@click.option("--threads", default=0, help="Of onnxruntime for one batch (default: one a core).")
@click.option("--gpu", is_flag=True, help="Compute with PyTorch on the GPU.")
@click.option("--allow-python-layers", is_flag=True, help="Let nets run Python code that their folder brings.")
@options.max_memory
@options.imports
def command(**given):
    from functools import partial

    from caffepy import limits
    from caffepy.cli import terminal
    from caffepy.errors import ConfigError
    from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig
    from caffepy.serve.server import check_extra

    check_extra()
    from caffepy.serve.options import ServeOptions
    from caffepy.serve.workers import run

    terminal.start_logging()
    if bool(given["model_name"]) != bool(given["model_base_path"]):
        raise ConfigError("--model-name and --model-base-path are given together")
    meta = click.get_current_context().meta
    models = [ModelConfig(name=given["model_name"], base_path=given["model_base_path"])] if given["model_name"] else []
    run(
        ServeOptions(
            host=given["host"],
            port=None if given["port"] < 0 else given["port"],
            rest_port=None if given["rest_api_port"] < 0 else given["rest_api_port"],
            models=models,
            config_file=given["model_config_file"],
            config_poll_seconds=given["model_config_file_poll_wait_seconds"],
            poll_seconds=given["file_system_poll_wait_seconds"],
            canaries=list(given["canary"]),
            batching=given["enable_batching"],
            batching_file=given["batching_parameters_file"],
            monitoring_file=given["monitoring_config_file"],
            ssl_file=given["ssl_config_file"],
            token_file=given["api_token_file"],
            max_message=min(limits.parse(given["max_message_size"]), (1 << 31) - 1),
            rest_seconds=given["rest_api_timeout_in_ms"] / 1000,
            drain_seconds=given["drain_seconds"],
            unload_first=given["unload_first"],
            labels_ahead=given["allow_version_labels_for_unavailable_models"],
            load_threads=given["num_load_threads"],
            retry_seconds=given["load_retry_interval_micros"] / 1e6,
            python_layers=given["allow_python_layers"],
            engine=given["engine"],
            gpu=given["gpu"],
            threads=given["threads"],
            raw_tensors=given["enable_serialization_as_tensor_content"],
            workers=given["workers"],
        ),
        terminal.echo,
        partial(begin_worker, meta["max_memory"], meta["imports"]),
    )


def begin_worker(max_memory: str | None, modules: tuple[str, ...]) -> None:
    """What a process of --workers does first."""
    from caffepy import limits
    from caffepy.cli import terminal

    terminal.start_logging()
    limits.set_max_memory(max_memory)
    options.load(modules)
