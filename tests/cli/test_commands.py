"""The command line itself: spellings, help, unknown names and exit statuses."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import click
import pytest

from caffepy import __version__
from caffepy.cli import cli, main, normalize

COMMANDS = cli.list_commands(click.Context(cli))
READ_NOTHING = {"device-query", "help", "zoo"}


def run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "caffepy", *args], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (["train", "-solver=s.prototxt"], ["train", "--solver=s.prototxt"]),
        (["train", "-solver", "s.prototxt"], ["train", "--solver", "s.prototxt"]),
        (["train", "--solver", "my_net_v2.prototxt"], ["train", "--solver", "my_net_v2.prototxt"]),
        (["--sigint_effect=snapshot"], ["--sigint-effect=snapshot"]),
        (["-sigint_effect", "none"], ["--sigint-effect", "none"]),
        (["--weights=a_b.caffemodel,-c_d"], ["--weights=a_b.caffemodel,-c_d"]),
        (["--level", "-1"], ["--level", "-1"]),
        (["--weights=a\nb"], ["--weights=a\nb"]),
        (["--", "-solver_x"], ["--", "-solver_x"]),
        (["-help"], ["--help"]),
        (["-"], ["-"]),
    ],
)
def test_caffes_spellings(given, ours):
    assert normalize(given) == ours


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    main([name, "-help"])
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: caffepy {name} ")
    command = cli.get_command(click.Context(cli), name)
    assert command.help
    for option in command.params:
        assert isinstance(option, click.Argument) or option.help, f"--{option.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_builds_nets_takes_files_from_strangers(name):
    """A merge once lost these options of one command."""
    spelled = {option for param in cli.get_command(click.Context(cli), name).params for option in param.opts}
    if name == "publish":  # copies the files as they are, never over others
        assert {"--max-memory", "--no-python-layers", "--import"} <= spelled
    elif spelled & {"--model", "--solver"} and "--server" not in spelled:
        assert {"--max-memory", "--no-python-layers", "--force", "--import", "--set"} <= spelled


@pytest.mark.parametrize("name", sorted({*COMMANDS} - READ_NOTHING))
def test_what_reads_files_takes_a_limit_on_memory(name):
    spelled = {option for param in cli.get_command(click.Context(cli), name).params for option in param.opts}
    group = cli.get_command(click.Context(cli), name)
    if isinstance(group, click.Group):
        spelled = set.intersection(*({o for p in inner.params for o in p.opts} for inner in group.commands.values()))
    assert "--max-memory" in spelled


def test_the_four_of_the_first_step_are_there():
    assert {"train", "test", "time", "convert-mnist"} <= set(COMMANDS)


@pytest.mark.parametrize("name", ["convert_mnist", "convert-mnist"])
def test_commands_may_be_written_with_underscores(name):
    assert cli.get_command(click.Context(cli), name).name == "command"


HELP = "\n  caffepy {} --help lists the options."
USAGE = {
    "trian": 'no command "trian"\n  Did you mean "train"?',
    "frobnicate": 'no command "frobnicate"\n  caffepy --help lists the commands.',
    "train": "Missing option '--solver'." + HELP.format("train"),
    "train x.prototxt": "Missing option '--solver'.\n  Write: caffepy train --solver x.prototxt",
    "train --level 1 x.prototxt --resume": (
        "Missing option '--solver'.\n  Write: caffepy train --level 1 --solver x.prototxt --resume"
    ),
    "train x y": "Missing option '--solver'." + HELP.format("train"),
    "test x.caffemodel": "Missing option '--model'." + HELP.format("test"),
    "help trian": 'no command "trian"\n  Did you mean "train"?',
    "train --solver": "Option '--solver' requires an argument.",
    "train --solver x y": "Got unexpected extra argument (y)" + HELP.format("train"),
    "train --solver x --sigint_effect explode": (
        "Invalid value for '--sigint-effect': 'explode' is not one of 'stop', 'snapshot', 'none'."
        + HELP.format("train")
    ),
    "train --solver x --weights a --snapshot b": (
        "--weights, --snapshot and --resume exclude each other\n"
        "  --snapshot and --resume restore the weights with everything else."
    ),
    "test --model x": "Missing option '--weights'." + HELP.format("test"),
    "time --model x --iterations many": (
        "Invalid value for '--iterations': 'many' is not a valid integer." + HELP.format("time")
    ),
    "time --model x --iterations 0": "--iterations must be at least 1, got 0" + HELP.format("time"),
    "convert-mnist a b": "Missing argument 'DB'." + HELP.format("convert-mnist"),
}


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage(line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and out == ""
    assert err == f"error: {USAGE[line]}\n"


def test_a_misspelt_option_offers_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "-wieghts=x"])
    assert stop.value.code == 1
    err = capsys.readouterr().err  # the wording is click's and changes
    assert err.startswith("error: No such option") and "--wieghts" in err and "Did you mean '--weights'?" in err


def test_a_full_disk_is_no_traceback(monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(28, "No space left on device", "/data/db")

    monkeypatch.setattr(cli, "main", full)
    with pytest.raises(SystemExit) as stop:
        main(["train"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: /data/db: No space left on device\n"


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["train"])
    assert stop.value.code == 130 and capsys.readouterr().err == ""


@pytest.mark.parametrize("line", ["train -h", "help train", "train --help"])
def test_help_may_be_asked_for_in_several_ways(line, capsys):
    main(line.split())
    assert capsys.readouterr().out.startswith("Usage: caffepy train [OPTIONS]\n")


def test_help_alone_lists_the_commands(capsys):
    main(["help"])
    assert "\n  convert-mnist " in capsys.readouterr().out


def test_words_of_a_choice_are_written_in_any_case():
    for name in COMMANDS:
        for param in cli.get_command(click.Context(cli), name).params:
            if isinstance(param.type, click.Choice):
                assert not param.type.case_sensitive, f"{name} {param.opts}"
    assert cli.get_command(click.Context(cli), "time").params[3].type.convert("test", None, None) == "TEST"


def test_a_shell_completes_commands_options_and_files():
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        environ = {**os.environ, "_CAFFEPY_COMPLETE": "bash_complete", "COMP_WORDS": line}
        environ["COMP_CWORD"] = str(len(words) - 1)
        command = [sys.executable, "-c", "from caffepy.cli import main; main()"]
        return subprocess.run(command, capture_output=True, text=True, env=environ, check=False).stdout.splitlines()

    assert completed("caffepy tra") == ["plain,train"]
    assert completed("caffepy train --sol") == ["plain,--solver"]
    assert completed("caffepy train --solver le") == ["file,le"]
    assert completed("caffepy train --engine nu") == ["plain,numpy"]


def test_errors_are_red_on_a_terminal(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    said = {}
    for name, no_color in (("plain", "1"), ("red", "")):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "stderr", Terminal())
        with pytest.raises(SystemExit):
            main(["trian"])
        said[name] = sys.stderr.getvalue()
    message = 'no command "trian"\n  Did you mean "train"?\n'
    assert said == {"plain": f"error: {message}", "red": f"\x1b[31m\x1b[1merror: \x1b[0m{message}"}


@pytest.mark.parametrize("arg", ["--version", "-version"])
def test_version(arg, capsys):
    main([arg])
    assert capsys.readouterr().out == f"caffepy version {__version__}\n"


def test_the_program_from_outside(tmp_path):
    done = run()
    assert done.returncode == 0 and done.stdout.startswith("Usage: caffepy [OPTIONS] COMMAND") and not done.stderr
    done = run("time", "-model", str(tmp_path / "n.prototxt"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}/n.prototxt: cannot read the file: No such file or directory\n"


@pytest.mark.parametrize("args", [[], *([name] for name in COMMANDS)], ids=lambda args: " ".join(args))
def test_help_is_instant(args):
    """What takes long to import waits until the command runs."""
    code = (
        "import sys; from caffepy.cli import main\n"
        f"try: main({[*args, '--help']})\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'numpy', 'google', 'h5py', 'lmdb', 'rich', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
