"""The layers that pool regions, against loops over cells."""

from __future__ import annotations

import re
from math import ceil, floor

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.regions import round_away
from tests.layers.detection import REGIONS
from tests.support import ENGINES, Built, assert_close

POOLED = (3, 4)


def maps(shape=(2, 5, 9, 11), repeated: bool = False) -> np.ndarray:
    random = np.random.default_rng(8)
    return np.asarray(random.integers(-2, 3, shape) if repeated else random.standard_normal(shape), np.float32)


def many_regions(count: int = 40) -> np.ndarray:
    """Small and large ones, some beyond the map of 9 x 11 cells of 4 pixels, some with exchanged corners."""
    random = np.random.default_rng(9)
    corners = random.uniform(-10, 50, (count, 4)) + np.where(random.random((count, 1)) < 0.3, [0, 0, 60, 60], 0)
    return np.concatenate([random.integers(0, 2, (count, 1)), corners], axis=1).astype(np.float32)


def c_round(x: float) -> int:
    return floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def cut(low: float, high: float, size: int) -> range:
    return range(min(max(floor(low), 0), size), min(max(ceil(high), 0), size))


def test_rounding_is_away_from_zero():
    x = np.array([-2.5, -1.5, -0.5, -0.2, 0.49999997, 0.5, 1.5, 2.5], np.float32)
    assert round_away(x).tolist() == [-3, -2, -1, 0, 0, 1, 2, 3]


def roi_pooling(x, regions, dy):
    """Maxima, and the gradient of the map: that of each bin at the first of its largest cells, in row order."""
    (ph, pw), (_, channels, height, width) = POOLED, x.shape
    y, dx = np.zeros((len(regions), channels, ph, pw)), np.zeros(x.shape)
    for r, (n, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (c_round(c * 0.25) for c in corners)
        w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for i, j in np.ndindex(ph, pw):
            rows = cut(floor(i * h / ph) + y1, ceil((i + 1) * h / ph) + y1, height)
            columns = cut(floor(j * w / pw) + x1, ceil((j + 1) * w / pw) + x1, width)
            cells = [(int(n), c, a, b) for c in range(channels) for a in rows for b in columns]
            for c in range(channels if cells else 0):
                best = max((cell for cell in cells if cell[1] == c), key=lambda cell: x[cell])
                y[r, c, i, j] = x[best]
                dx[best] += dy[r, c, i, j]
    return y, dx


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("repeated", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("channels", [1, 4, 5])
@pytest.mark.parametrize("regions", [REGIONS, many_regions()], ids=["few", "many"])
def test_roi_pooling(regions, channels, repeated, engine):
    x = maps((2, channels, 9, 11), repeated)
    dy = np.random.default_rng(1).standard_normal((len(regions), channels, *POOLED)).astype("f4")
    built = Built(
        'type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 }',
        x,
        regions,
        engine=engine,
    )
    y, dx = roi_pooling(x, regions, dy)
    assert_close(built.forward()[0], y, 0)
    gradients = built.backward(dy)
    assert_close(gradients[0], dx)
    assert not gradients[1].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_roi_pooling_of_whole_maps(engine):
    x = maps((1, 3, 40, 70))
    text = 'type: "ROIPooling" roi_pooling_param { pooled_h: 1 pooled_w: 1 }'
    built = Built(text, x, np.array([[0, 0, 0, 69, 39], [0, 7, 3, 60, 33]]), engine=engine)
    expected = [x.max(axis=(2, 3))[0], x[0, :, 3:34, 7:61].max(axis=(1, 2))]
    assert_close(built.forward()[0][:, :, 0, 0], np.array(expected), 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "fields",
    [
        'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 }',
        'type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 2 }',
        'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 1 output_dim: 1 group_size: 2 }',
    ],
)
def test_no_regions(fields, engine):
    built = Built(fields, maps((1, 4, 5, 5)), np.zeros((0, 5)), engine=engine)
    assert built.forward()[0].shape[0] == 0
    assert not built.backward(np.zeros(built.top[0].shape))[0].any()


def psroi_pooling(x, regions, dy, scale=0.25, dim=2, group=3):
    _, _, height, width = x.shape
    y, dx = np.zeros((len(regions), dim, group, group)), np.zeros(x.shape)
    for r, (n, *corners) in enumerate(regions):
        x1, y1, x2, y2 = ((c_round(c) + behind) * scale for c, behind in zip(corners, (0, 0, 1, 1)))
        w, h = max(x2 - x1, 0.1), max(y2 - y1, 0.1)
        for d, i, j in np.ndindex(dim, group, group):
            rows = cut(i * h / group + y1, (i + 1) * h / group + y1, height)
            columns = cut(j * w / group + x1, (j + 1) * w / group + x1, width)
            if rows and columns:
                at = (
                    int(n),
                    (d * group + i) * group + j,
                    slice(rows[0], rows[-1] + 1),
                    slice(columns[0], columns[-1] + 1),
                )
                y[r, d, i, j] = x[at].mean()
                dx[at] += dy[r, d, i, j] / (len(rows) * len(columns))
    return y, dx


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("regions", [REGIONS, many_regions()], ids=["few", "many"])
def test_psroi_pooling(regions, engine):
    x = maps((2, 18, 9, 11))
    text = 'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 0.25 output_dim: 2 group_size: 3 }'
    built = Built(text, x, regions, engine=engine)
    dy = np.random.default_rng(1).standard_normal((len(regions), 2, 3, 3)).astype("f4")
    y, dx = psroi_pooling(x, regions, dy)
    assert_close(built.forward()[0], y)
    gradients = built.backward(dy)
    assert_close(gradients[0], dx)
    assert not gradients[1].any()


def sample(plane, y: float, x: float) -> float:
    """Bilinear; 0 further out than a cell."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    i, j = min(int(y), height - 1), min(int(x), width - 1)
    ii, jj, a, b = min(i + 1, height - 1), min(j + 1, width - 1), y - i, x - j
    upper, lower = ((1 - b) * row[j] + b * row[jj] for row in (plane[i], plane[ii]))
    return (1 - a) * upper + a * lower


def roi_align(x, regions, samples):
    ph, pw = POOLED
    y = np.zeros((len(regions), x.shape[1], ph, pw))
    for r, (n, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (c * 0.25 for c in corners)
        w, h = max(x2 - x1, 1), max(y2 - y1, 1)
        down, across = (samples, samples) if samples > 0 else (ceil(h / ph), ceil(w / pw))
        for c, i, j in np.ndindex(x.shape[1], ph, pw):
            places = [
                (y1 + (i + (a + 0.5) / down) * h / ph, x1 + (j + (b + 0.5) / across) * w / pw)
                for a in range(down)
                for b in range(across)
            ]
            y[r, c, i, j] = np.mean([sample(x[int(n), c], *place) for place in places])
    return y


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("samples", [-1, 1, 2])
@pytest.mark.parametrize("regions", [REGIONS, many_regions(12)], ids=["few", "many"])
def test_roi_align(regions, samples, engine):
    x = maps((2, 3, 9, 11))
    text = f"pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 sampling_ratio: {samples}"
    built = Built(f'type: "ROIAlign" roi_align_param {{ {text} }}', x, regions, engine=engine)
    assert_close(built.forward()[0], roi_align(x, regions, samples))
    # The layer is linear: <dy, A v> = <dx, v> for any v.
    random = np.random.default_rng(1)
    dy, v = random.standard_normal(built.top[0].shape).astype("f4"), random.standard_normal(x.shape)
    dx = built.backward(dy)[0]
    assert np.sum(dx * v) == pytest.approx(np.sum(dy * roi_align(v, regions, samples)), rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_roi_align_in_parts(engine, monkeypatch):
    text = 'type: "ROIAlign" roi_align_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 }'
    built = Built(text, maps(), many_regions(), engine=engine)
    dy = np.random.default_rng(1).standard_normal(built.top[0].shape).astype("f4")
    whole = built.forward()[0], built.backward(dy)[0]
    monkeypatch.setattr("caffepy.layers.roi_align.CHUNK", 1)
    assert_close(built.forward()[0], whole[0])
    assert_close(built.backward(dy)[0], whole[1])


REFUSED = [
    ("ROIPooling", "", [(1, 4, 5, 5), (2, 5)], ConfigError, "needs pooled_h and pooled_w"),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", [(4, 5), (2, 5)], ShapeError, "a map (N, C, H, W)"),
    (
        "ROIPooling",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
        [(1, 4, 5, 5), (2, 4)],
        ShapeError,
        "regions bottom 1 must be (R, 5): image, x1, y1, x2, y2; they are (2, 4)",
    ),
    ("ROIAlign", "", [(1, 4, 5, 5), (2, 5)], ConfigError, "needs pooled_h and pooled_w"),
    ("PSROIPooling", "", [(1, 4, 5, 5), (2, 5)], ConfigError, "needs spatial_scale, output_dim and group_size"),
    (
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
        [(1, 4, 5, 5), (2, 5)],
        ShapeError,
        "has 4 channels, output_dim 2 and group_size 2 need 8",
    ),
]


@pytest.mark.parametrize("kind, fields, shapes, error, message", REFUSED)
def test_refusals(kind, fields, shapes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Built(f'type: "{kind}" {fields}', *(np.zeros(shape) for shape in shapes))


def test_a_region_of_no_image():
    text = 'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 }'
    built = Built(text, maps((2, 1, 5, 5)), np.array([[0, 1, 1, 2, 2], [2, 1, 1, 2, 2]]))
    with pytest.raises(DataError, match=re.escape("region 1 of bottom 1 belongs to image 2; bottom 0 has 2")):
        built.forward()
