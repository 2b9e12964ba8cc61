"""Pictures as inputs: the version's own transform, and names of classes."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from caffepy.data.pictures import image
from caffepy.data.pictures.mean import write_mean
from caffepy.errors import CaffeError
from caffepy.serve.api.servable_pb2 import Servable, Transform
from caffepy.serve.client import Client, RestClient
from caffepy.serve.options import read_text
from caffepy.serve.pictures import PictureInput
from caffepy.serve.refusal import Refused
from tests.serve.running import PICTURES, expected, publish_net, served
from tests.serve.test_tfs import ask

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (3, 6, 6), np.uint8)  # B, G, R
PNG = image.encode(PIXELS, "png")


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("mean", [[], [10], [10, 20, 30]])
def test_transform(tmp_path, channels, scale, mean):
    param = Transform(height=6, width=6, crop_size=4, scale=scale, mean_value=mean)
    param.channels = Transform.Channels.Value(channels)
    pixels = PIXELS[::-1] if channels == "RGB" else PIXELS
    wanted = (pixels[:, 1:5, 1:5] - np.reshape(mean or [0], (-1, 1, 1))) * scale
    np.testing.assert_allclose(PictureInput(param, tmp_path, (3, 4, 4))(PNG), wanted, rtol=1e-6)


def test_mean_file_gray_and_resizing(tmp_path):
    mean = RANDOM.uniform(0, 255, (3, 6, 6)).astype(np.float32)
    write_mean(mean, tmp_path / "mean.binaryproto")
    param = Transform(height=6, width=6, crop_size=4, mean_file="mean.binaryproto")
    found = PictureInput(param, tmp_path, (3, 4, 4))(PNG)
    np.testing.assert_allclose(found, (PIXELS - mean)[:, 1:5, 1:5], rtol=1e-5)
    gray = PictureInput(Transform(channels=Transform.GRAY), tmp_path, (1, 3, 3))(PNG)
    np.testing.assert_array_equal(gray, image.resize(image.decode(PNG, "", 1), 3, 3))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("channels: GRAY", "the transform makes 1 channel(s), the input has 3"),
        ("crop_size: 5", "crop_size 5 does not make the input's 4x4"),
        ("height: 3 width: 3 crop_size: 4", "the crop 4x4 is larger than the resized picture, (3, 3)"),
        ("mean_value: 1 mean_value: 2", "the mean has shape (2, 1, 1), resized pictures are 3x(4, 4)"),
        ('mean_file: "../secret.binaryproto"', '"../secret.binaryproto" lies outside of the folder of its version'),
    ],
)
def test_transforms_that_cannot_be(tmp_path, text, said):
    with pytest.raises(CaffeError) as caught:
        PictureInput(read_text(text, Transform()), tmp_path, (3, 4, 4))
    assert said in str(caught.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("pictures") / "animals"
    labels = base.parent / "labels.txt"
    labels.write_text("cat\ndog\nhorse\n")
    settings = read_text(
        'transform { height: 6 width: 6 crop_size: 4 scale: 0.01 } labels_file: "labels.txt" top_k: 2', Servable()
    )
    publish_net(base, 1, definition=PICTURES, settings=settings, extra={"labels.txt": str(labels)})
    with served(base, "animals") as running:
        running.base = base
        yield running


def scores(server):
    x = (PIXELS[None, :, 1:5, 1:5] * np.float32(0.01)).astype(np.float32)
    return expected(server.base, 1, x)[0]


def test_classify_returns_names(server):
    truth = scores(server)
    names = [["cat", "dog", "horse"][i] for i in np.argsort(-truth)[:2]]
    with Client(server.grpc) as client:
        [found, again] = client.classify("animals", [PNG, PNG])
    assert [name for name, _ in found] == names
    np.testing.assert_allclose([score for _, score in found], np.sort(truth)[::-1][:2], rtol=1e-4)
    assert again == found
    assert [name for name, _ in RestClient(server.rest).classify("animals", [PNG])[0]] == names


def test_predict_takes_pictures(server):
    truth = scores(server)
    with Client(server.grpc) as client:
        found = client.predict("animals", {"data": [PNG, PNG]})["score"]
    np.testing.assert_allclose(found, [truth, truth], rtol=1e-4)
    text = base64.b64encode(PNG).decode()
    for body, key in (
        ({"instances": [{"b64": text}]}, "predictions"),
        ({"inputs": {"data": [{"b64": text}]}}, "outputs"),
    ):
        status, got, _ = ask(f"{server.rest}/v1/models/animals:predict", body)
        assert status == 200
        np.testing.assert_allclose(got[key], [truth], rtol=1e-4)
    v2 = {"inputs": [{"name": "data", "shape": [1], "datatype": "BYTES", "data": [{"b64": text}]}]}
    status, got, _ = ask(f"{server.rest}/v2/models/animals/infer", v2)
    np.testing.assert_allclose(got["outputs"][0]["data"], truth, rtol=1e-4)


def test_a_file_that_is_no_picture(server):
    with Client(server.grpc) as client, pytest.raises(Refused, match="the picture does not decode"):
        client.classify("animals", [b"no picture"])


def test_the_command_predict(server, tmp_path, capsys):
    from caffepy.cli import main

    (tmp_path / "one.png").write_bytes(PNG)
    for address in (server.grpc, server.rest):
        main(["predict", "--server", address, "--model", "animals", str(tmp_path / "one.png")])
        name, _, found = capsys.readouterr().out.partition(": ")
        assert name == "one.png"
        assert len(found.split(", ")) == 2
    with pytest.raises(SystemExit):
        main(["predict", "--server", server.grpc, "--model", "plants", str(tmp_path / "one.png")])
    assert "Servable not found for request: Latest(plants)" in capsys.readouterr().err


def test_publish_says_what_is_wrong(tmp_path, capsys):
    from caffepy.cli import main
    from tests.serve.running import make_net

    deploy, weights = make_net(tmp_path / "net", PICTURES)
    base = tmp_path / "base"
    main(
        ["publish", "--model", str(deploy), "--weights", str(weights), "--to", str(base), "--transform", "crop_size: 4"]
    )
    out = capsys.readouterr().out
    assert out == f"takes data (any, 3, 4, 4)\ngives score (any, 3)\nWrote {base}/1\n"
    assert sorted(json.loads((base / "1" / "manifest.json").read_text())["files"]) == [
        "deploy.prototxt", "model.caffemodel", "servable.prototxt",
    ]  # fmt: skip
    for more, said in (
        (["--version", "1"], "version 1 is there already"),
        (
            ["--transform", "crop: 4"],
            '--transform:1:1: no field "crop" in caffepy.Transform\n  Did you mean "crop_size"?',
        ),
        (["--transform", "crop_size: 9"], "crop_size 9 does not make the input's 4x4"),
        (["--labels", str(tmp_path / "none.txt")], "there is no such file"),
    ):
        with pytest.raises(SystemExit):
            main(["publish", "--model", str(deploy), "--weights", str(weights), "--to", str(base), *more])
        assert said in capsys.readouterr().err
    assert sorted(path.name for path in base.iterdir()) == ["1"]
