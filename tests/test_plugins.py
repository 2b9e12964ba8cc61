"""What others add: names that are taken, modules and packages that are found, and those that fail."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import caffepy
from caffepy import plugins
from caffepy.cli import main
from caffepy.errors import ConfigError
from caffepy.net import layer as layers
from caffepy.plugins import Registry
from caffepy.solver import policies, rules

LAYERS = """
import caffepy
from caffepy.net.layer import Layer

@caffepy.register_layer("{name}")
class Double(Layer):
    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
"""
NET = """
layer {{ name: "x" type: "DummyData" top: "x" dummy_data_param {{ shape {{ dim: 2 }} data_filler {{ value: 3 }} }} }}
layer {{ name: "y" type: "{name}" bottom: "x" top: "y" }}
"""


@pytest.fixture(autouse=True)
def as_before(tmp_path, monkeypatch):
    """A folder of one's own; modules, paths and names that a test adds are forgotten after it."""
    layers.layer_types()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    before = set(sys.modules)
    registries = (layers._registry, rules._rules, policies._policies)
    kept = [(registry, dict(registry), dict(registry._owners)) for registry in registries]
    yield
    for registry, things, owners in kept:
        registry.clear(), registry.update(things), registry._owners.clear(), registry._owners.update(owners)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    importlib.invalidate_caches()
    plugins._entry_points.cache_clear()
    plugins._begun.clear()


def install(folder, package: str, points: str) -> None:
    """Metadata of a package, as pip leaves it on the path."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[caffepy.plugins]\n{points}\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    plugins._entry_points.cache_clear()


# Names


def first(): ...
def second(): ...


def test_a_name_is_given_once():
    registry = Registry("colour", "colours")
    registry.register("red", first)
    registry.register("red", first)  # a cell of a notebook run again
    with pytest.raises(ConfigError) as caught:
        registry.register("red", second)
    assert str(caught.value) == (
        'the colour "red" of tests.test_plugins.second is that of tests.test_plugins.first already\n'
        "  Choose another name, or register it with replace=True."
    )
    registry.register("red", second, replace=True)
    assert registry.find("red") is second
    with pytest.raises(ConfigError, match=r"of \S+\.first is that of \S+\.second already"):
        registry.register("red", first)


def test_unknown_names():
    registry = Registry("colour", "colours")
    registry.register("red", first)
    with pytest.raises(ConfigError, match=r'^unknown colour "Rad"\n  Did you mean "red"\?$'):
        registry.find("Rad")
    with pytest.raises(ConfigError, match=r'^unknown colour "qqq"\n  Known colours: red\.$'):
        registry.find("qqq")
    with pytest.raises(ConfigError) as caught:
        layers.layer_class("Qqqqqqqqqq")
    assert str(caught.value) == (
        'unknown layer type "Qqqqqqqqqq"\n  If it is your own, name the module that registers it: --import my_layers.'
    )


@pytest.mark.parametrize("register", [layers.register("ReLU"), rules.update_rule("SGD"), policies.policy])
def test_caffes_own_names_are_taken(register):
    class fixed(layers.Layer):
        pass

    with pytest.raises(ConfigError, match=r"is that of caffepy\.(layers\.relu\.ReLU|solver\.\w+\.\w+) already"):
        register(fixed)


def test_caffes_own_may_be_replaced_on_purpose():
    @layers.register("ReLU", replace=True)
    class Mine(layers.Layer):
        pass

    assert layers.layer_class("ReLU") is Mine


# Modules


def test_a_module_by_name_or_by_file(tmp_path):
    (tmp_path / "by_name.py").write_text(LAYERS.format(name="ByName"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside.py").write_text("NAME = 'ByFile'\n")
    (tmp_path / "sub" / "by_file.py").write_text("from beside import NAME\n" + LAYERS.format(name="ByFile"))
    assert plugins.load("by_name").Double.type == "ByName"
    module = caffepy.plugins.load(tmp_path / "sub" / "by_file.py")
    assert module.NAME in layers.layer_types() and plugins.load("sub/by_file.py") is module


def test_modules_that_are_not_there(tmp_path):
    (tmp_path / "my_layers.py").write_text("")
    for name, message in (
        ("my_layer", f'no module "my_layer" on the Python path or in {tmp_path}\n  Did you mean "my_layers"?'),
        ("my_layer.py", 'my_layer.py: there is no such file\n  Did you mean "my_layers.py"?'),
        (
            "zz.qq",
            f'no module "zz.qq" on the Python path or in {tmp_path}\n  Set PYTHONPATH to the folder that holds it.',
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            plugins.load(name)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["json", "numpy"])
def test_a_file_of_a_name_that_is_taken(name, tmp_path):
    (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(ConfigError) as caught:
        plugins.load(f"{name}.py")
    assert str(caught.value) == (
        f'{name}.py: the file cannot be imported as "{name}", which is {importlib.import_module(name).__file__}\n'
        "  Rename the file."
    )


def test_modules_that_cannot_be_imported(tmp_path):
    (tmp_path / "broken.py").write_text("import numpy\nnumpy.nothing\n")
    with pytest.raises(ConfigError) as caught:
        plugins.load("broken.py")
    assert str(caught.value) == (
        "the module \"broken\" cannot be imported: AttributeError: module 'numpy' has no attribute 'nothing'\n"
        f"  At {tmp_path}/broken.py:2."
    )


# Packages


def test_installed_packages_are_found_when_something_is_looked_up(tmp_path):
    (tmp_path / "fine_plugin.py").write_text(
        LAYERS.format(name="Fine")
        + "from caffepy.net.layer import layer_types\nFOUND = 'Fine' in layer_types()\n"
        + "from caffepy.solver.policies import policy\n@policy\ndef halving(p, iteration, step): return 1.0\n"
    )
    install(tmp_path, "fine-package", "layers = fine_plugin")
    assert "fine_plugin" not in sys.modules
    assert policies._policies.find("halving")
    assert layers.layer_class("Fine") is sys.modules["fine_plugin"].Double and sys.modules["fine_plugin"].FOUND


def test_a_package_that_cannot_be_imported_is_named_until_it_can(tmp_path):
    (tmp_path / "failing_plugin.py").write_text("import not_there")
    install(tmp_path, "failing-package", "layers = failing_plugin")
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            layers.layer_class("ReLU")
        assert str(caught.value) == (
            'the plugin "layers" of the package failing-package cannot be imported: '
            "ModuleNotFoundError: No module named 'not_there'\n"
            f"  At {tmp_path}/failing_plugin.py:1. Mend the package, or remove it: pip uninstall failing-package"
        )
    (tmp_path / "failing_plugin.py").write_text("# mended")
    importlib.invalidate_caches()
    assert layers.layer_class("ReLU").type == "ReLU"


def test_importing_caffepy_and_the_help_read_no_entry_points():
    code = """
import sys
from importlib import metadata
def refuse(**of): raise AssertionError("read")
metadata.entry_points = refuse
import caffepy, caffepy.net.net, caffepy.solver.solver
from caffepy.cli import main
main(["train", "--help"])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


# The command line


@pytest.mark.parametrize("command", ["time --model net.prototxt --iterations 1", "draw net.prototxt net.svg"])
@pytest.mark.parametrize("given", ["cli_layers", "cli_layers.py"])
def test_import_on_the_command_line(command, given, tmp_path, capsys):
    (tmp_path / "cli_layers.py").write_text(LAYERS.format(name="OfCli"))
    (tmp_path / "net.prototxt").write_text(NET.format(name="OfCli"))
    main([*command.split(), "--import", given])
    assert "OfCli" in layers.layer_types()
    sys.modules.pop("cli_layers")


def test_import_of_several_and_of_modules_that_say_import_caffe(tmp_path, capsys):
    (tmp_path / "cli_one.py").write_text("import caffe\n" + LAYERS.format(name="OfOne"))
    (tmp_path / "cli_two.py").write_text(LAYERS.format(name="OfTwo"))
    (tmp_path / "net.prototxt").write_text(NET.format(name="OfTwo"))
    main(["time", "--model", "net.prototxt", "--iterations", "1", "--import", "cli_one", "-import=cli_two.py"])
    assert {"OfOne", "OfTwo"} <= set(layers.layer_types())


def test_every_command_that_builds_a_net_has_it():
    from caffepy.cli import cli

    for name in (
        "train",
        "test",
        "time",
        "extract-features",
        "check-layer",
        "serve",
        "publish",
        "compare-recommenders",
    ):
        assert "--import" in [option for p in cli.get_command(None, name).params for option in p.opts]


def test_a_wrong_import_ends_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["time", "--model", "net.prototxt", "--import", "not_there.py"])
    assert capsys.readouterr().err == "error: not_there.py: there is no such file\n"


def test_a_policy_may_take_the_name_of_another():
    with pytest.raises(ConfigError, match="replace=True"):
        policies.policy(lambda_named("step"))
    policies.policy(replace=True)(mine := lambda_named("step"))
    assert policies._policies["step"] is mine


def lambda_named(name: str):
    def fn(p, iteration, step):
        return 0.0

    fn.__name__ = fn.__qualname__ = name
    return fn


def test_a_layer_of_pycaffes_kind_is_not_registered():
    with pytest.raises(ConfigError) as caught:
        caffepy.register_layer("Mine")(type("Mine", (caffepy.Layer,), {}))
    assert str(caught.value) == (
        'the layer "Mine" is no caffepy.net.layer.Layer: Mine\n'
        '  Derive it from that; a layer as pycaffe\'s, caffepy.Layer, is named by type: "Python".'
    )
