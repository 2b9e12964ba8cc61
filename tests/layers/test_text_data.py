"""TextData: streams, windows and labelled sentences as tops, from text and from files of tokens; resuming; refusals."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffepy import passes, rng
from caffepy.data.texts import convert
from caffepy.errors import ConfigError, DataError
from caffepy.net.net import Net
from caffepy.proto import caffe_pb2, text

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
LINES = "a bad day\tbad\nso good\tgood\n\nvery good indeed\tgood\nbad\tbad\n"
TAGGED = "the dog runs\tD N V\ndogs bark\tN V\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {"text": ALPHABET, "lines": LINES, "tagged": TAGGED, "empty": ""}.items():
        (tmp_path / f"{name}.txt").write_text(content)
    return tmp_path


def made(name, *fields):
    """The folder of what convert-text makes of a file."""
    convert.write(name, *convert.convert([f"{name}.txt"], convert.TextTask(*fields)))
    return f'source: "{name}/train.h5"'


def net(tops, fields, more=""):
    names = " ".join(f'top: "{t}"' for t in tops.split())
    definition = f'layer {{ name: "t" type: "TextData" {names} text_data_param {{ {fields} }} }}'
    return Net(text.parse(definition + more, caffe_pb2.NetParameter()), caffe_pb2.TRAIN)


def batch(built):
    passes.of(built).forward()
    return {name: np.array(blob.data) for name, blob in built.engine_blobs.items()}


def letters(ids):
    return ["".join(ALPHABET[int(i) - 1] for i in column) for column in ids.T]


def test_streams(folder):
    built = net("data label cont", f"{made('text', 'CHAR')} batch_size: 2 time_steps: 4")
    found = [batch(built) for _ in range(4)]
    assert [letters(f["data"]) for f in found] == [
        ["abcd", "mnop"],
        ["efgh", "qrst"],
        ["ijkl", "uvwx"],
        ["abcd", "mnop"],
    ]
    assert [letters(f["label"]) for f in found[:2]] == [["bcde", "nopq"], ["fghi", "rstu"]]
    assert [f["cont"][0].tolist() for f in found] == [[0, 0], [1, 1], [1, 1], [0, 0]]
    assert all((f["cont"][1:] == 1).all() for f in found)


def test_a_text_needs_no_conversion(folder):
    made("text", "CHAR")
    built = net(
        "x", 'source: "text.txt" vocabulary: "text/vocabulary.json" batch_size: 1 time_steps: 3 columns: "label"'
    )
    assert letters(batch(built)["x"]) == ["bcd"]
    raw = net("data", 'source: "text.txt" level: BYTE batch_size: 1 time_steps: 3')
    assert batch(raw)["data"].tolist() == [[97], [98], [99]]


def test_byte_pairs(folder):
    pytest.importorskip("tokenizers")
    (folder / "text.txt").write_text("low lower lowest " * 20)
    built = net("data label", f"{made('text', 'BPE', 'NEXT', 262)} level: BPE batch_size: 1 time_steps: 9")
    found, known = batch(built), built.layers[0].vocabulary
    assert known.size == 262
    assert len(known.decode(found["data"][:, 0].astype(int).tolist())) > 9
    assert np.array_equal(found["data"][1:], found["label"][:-1])


def test_windows(folder):
    rng.seed(3)
    built = net("data label cont", f"{made('text', 'CHAR')} batch_size: 2 time_steps: 4 shuffle: true")
    found = [batch(built) for _ in range(5)]
    windows = [window for f in found for window in letters(f["data"])]
    assert all(window in ALPHABET for window in windows)
    assert len({*windows[:5]}) == len({*windows[5:]}) == 5  # each once an epoch
    assert all(ALPHABET.index(w) % 4 == ALPHABET.index(windows[0]) % 4 for w in windows[:5])
    assert all(f["cont"][0].tolist() == [0, 0] for f in found)


def test_labelled_sentences(folder):
    source = made("lines", "WORD", "SENTENCE")
    built = net("data label lengths mask cont", f"{source} batch_size: 3 labels: SENTENCE bucket: 2")
    found = batch(built)
    words = ["<unk>", "\n", "a", "bad", "day", "good", "indeed", "so", "very"]
    shown = [[words[int(i)] for i in row] for row in found["data"].T]
    assert shown == [
        ["a", "bad", "day", "<unk>"],
        ["so", "good", "<unk>", "<unk>"],
        ["very", "good", "indeed", "<unk>"],
    ]
    assert found["label"].tolist() == [0, 1, 1]
    assert found["lengths"].tolist() == [3, 2, 3]
    assert found["mask"].T.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert found["cont"].T.tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    cut = net("data lengths", f"{source} batch_size: 4 labels: SENTENCE time_steps: 2")
    assert batch(cut)["lengths"].tolist() == [2, 2, 2, 1]


def test_tags(folder):
    built = net("data label", f"{made('tagged', 'WORD', 'TOKEN')} batch_size: 2 labels: TOKEN bucket: 1")
    found = batch(built)
    assert found["label"].T.tolist() == [[0, 1, 2], [1, 2, -1]]  # D N V
    assert found["data"].T.tolist() == [[5, 2, 4], [3, 1, 0]]


def test_embed_has_a_row_for_each_token(folder):
    embed = 'layer { name: "e" type: "Embed" bottom: "data" top: "e" embed_param { num_output: 2 } }'
    built = net("data", f"{made('text', 'CHAR')} batch_size: 1 time_steps: 3", embed)
    assert built.layer_dict["e"].blobs[0].shape == (27, 2)


def test_weights_know_their_vocabulary(folder):
    built = net("data", f"{made('text', 'CHAR')} batch_size: 1 time_steps: 3")
    built.save("w.caffemodel")
    stored = caffe_pb2.NetParameter.FromString((folder / "w.caffemodel").read_bytes())
    assert stored.layer[0].text_data_param.fingerprint == built.layers[0].vocabulary.fingerprint


@pytest.mark.parametrize("fields", ["", "shuffle: true", 'labels: SENTENCE shuffle: true source: "lines/train.h5"'])
def test_resume(folder, fields):
    made("lines", "CHAR", "SENTENCE")
    fields = f"{made('text', 'CHAR')} batch_size: 2 time_steps: 4 {fields}"
    if "lines" in fields:
        fields = fields.replace('source: "text/train.h5"', "")
    built = net("data", fields)
    for _ in range(3):
        batch(built)
    state = built.layers[0].state()
    expected = [batch(built)["data"] for _ in range(6)]
    again = net("data", fields)
    batch(again)
    again.layers[0].set_state(state)
    for one in expected:
        assert np.array_equal(batch(again)["data"], one)


def test_two_processes_share_the_text(folder):
    source = made("text", "CHAR")
    whole = batch(net("data", f"{source} batch_size: 4 time_steps: 2"))["data"]
    parts = []
    for rank in (0, 1):
        built = net("data", f"{source} batch_size: 2 time_steps: 2")
        built.layers[0].shard(rank, 2)
        parts.append(batch(built)["data"])
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


OTHER = 'source: "lines/train.h5" vocabulary: "text/vocabulary.json"'
BYTES = 'source: "text.txt" level: BYTE'


@pytest.mark.parametrize(
    "tops, fields, error, message",
    [
        ("data", 'source: "empty.txt" level: BYTE', DataError, "empty.txt: the text is empty"),
        ("data", "level: BYTE", ConfigError, "text_data_param.source is not set"),
        ("data", 'source: "text.txt"', ConfigError, "text_data_param.vocabulary is not set, and none lies beside"),
        ("dat", BYTES, ConfigError, 'TextData has no "dat"\n  Did you mean "data"?'),
        ("data", 'source: "txt.txt" level: BYTE', DataError, 'No such file or directory\n  Did you mean "text.txt"?'),
        ("data", f"{BYTES} batch_size: 9", DataError, "the text has 26 tokens, too few for 9 parts of 4 tokens"),
        ("data", f"{BYTES} batch_size: 9 shuffle: true", DataError, "the text has 26 tokens, too few for 9 parts of"),
        ("data", f"{BYTES} time_steps: 0", ConfigError, "time_steps must be at least 1"),
        ("data", f"{BYTES} batch_size: 0", ConfigError, "batch_size must be at least 1"),
        ("data", f"{BYTES} labels: SENTENCE", DataError, "text.txt:1: the line has no label"),
        ("data", f"{BYTES} labels: TOKEN", ConfigError, "labels: TOKEN needs level WORD, not BYTE"),
        ("data", 'source: "lines.txt" level: BYTE labels: SENTENCE', DataError, 'lines.txt:1: the label "bad" is no'),
        ("data", 'source: "lines/train.h5"', DataError, "sentences with a label, labels: NEXT asks for one text"),
        ("data", f"{OTHER} labels: SENTENCE", DataError, "its tokens are of another vocabulary, of 15 tokens; that of"),
        ("data", f'{BYTES} columns: "data" columns: "cont"', ConfigError, "2 columns for 1 tops"),
    ],
)
def test_refused(folder, tops, fields, error, message):
    made("lines", "CHAR", "SENTENCE")
    made("text", "CHAR")
    default = "".join(f"{k}: {v} " for k, v in (("batch_size", 2), ("time_steps", 4)) if k not in fields)
    with pytest.raises(error) as caught:
        net(tops, default + fields)
    assert message in str(caught.value)


def test_damaged_files_of_tokens(folder):
    fields = made("text", "CHAR")
    with h5py.File("text/train.h5", "r+") as file:
        file["tokens"][3] = 27
    with pytest.raises(DataError, match="the file of tokens is damaged"):
        net("data", f"{fields} batch_size: 1 time_steps: 3")
    with h5py.File("text/train.h5", "r+") as file:
        del file["ends"]
    with pytest.raises(DataError, match='the file of tokens has no "ends"'):
        net("data", f"{fields} batch_size: 1 time_steps: 3")
