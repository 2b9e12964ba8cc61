"""What the zoo lists: the index is fresh, and found in a checkout and once installed."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffepy.cli import main
from caffepy.errors import ConfigError
from caffepy.zoo.catalogue import entries, find, zoo_folder
from models.definitions.counts import counted, written

ROOT = Path(__file__).parents[2]
ALL = {entry.name: entry for entry in entries()}


def test_every_entry_names_files_that_are_there():
    for entry in entries():
        for file in filter(None, (entry.net, entry.solver, entry.deploy)):
            assert (ROOT / "models" / entry.folder / file).is_file(), f"{entry.folder}/{file}"


def test_every_folder_with_a_solver_is_listed():
    folders = {path.parent.relative_to(ROOT / "models").as_posix() for path in ROOT.glob("models/**/*solver.prototxt")}
    assert {entry.folder for entry in entries()} == folders


def test_the_index_is_as_it_would_be_written():
    assert (ROOT / "models" / "index.json").read_text() == written(entries())


@pytest.mark.parametrize("name", ALL)
def test_counted_figures_are_fresh(name):
    if ALL[name].parameters > 3e7:
        pytest.skip("counted by a slow test")
    assert counted(ALL[name]) == ALL[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in ALL.items() if entry.parameters > 3e7])
def test_counted_figures_of_large_nets_are_fresh(name):
    assert counted(ALL[name]) == ALL[name]


@pytest.mark.parametrize("name", [name for name in ALL if "/" not in name])
def test_readmes_have_licence_size_and_checksums(name):
    entry = ALL[name]
    folder = ROOT / "models" / entry.folder
    readme = (folder / "README.md").read_text()
    assert "Paper: " in readme or "No paper" in readme
    assert "BSD-2-Clause" in readme and "GFLOP" in readme and f"{entry.parameters:,}" in readme
    for file in (entry.net, entry.solver, entry.deploy):
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() in readme, f"the checksum of {file} is another"


def test_a_name_that_is_not_there():
    with pytest.raises(ConfigError) as caught:
        find("alexnett")
    assert str(caught.value) == 'the zoo has no net "alexnett"\n  Did you mean "alexnet"?'
    assert find("bvlc_alexnet") == find("alexnet")


def test_zoo_lists_name_task_input_parameters_and_gflop(capsys):
    main(["zoo"])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.split() == ["name", "task", "input", "parameters", "GFLOP"]
    assert len(lines) == len(ALL)
    rows = {re.split(r"  +", line)[0]: re.split(r"  +", line)[1:] for line in lines}
    # 724,406,816 multiply-adds, as models/bvlc_alexnet/README.md derives them.
    assert rows["alexnet"] == ["classification", "3 x 227 x 227", "60,965,224", "1.45"]


def test_an_installed_package_holds_the_zoo(tmp_path):
    pytest.importorskip("setuptools", "77")  # what pyproject.toml is written for
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    assert not list((tmp_path / "lib").rglob("*.gz")), "no data is packed"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "lib")}

    def run(*args: str) -> str:
        command = [sys.executable, *args]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    assert str(tmp_path) in run("-c", "import caffepy; print(caffepy.__file__)")
    assert "bvlc" not in run("-m", "caffepy", "zoo")
    run("-m", "caffepy", "new", "alexnet", "mine", "--classes", "12")
    assert "num_output: 12" in (tmp_path / "mine" / "deploy.prototxt").read_text()
    assert str(tmp_path) in run("-c", "from caffepy.cli.compare_recommenders import ZOO; print(ZOO)")
    assert zoo_folder() == ROOT / "models"
