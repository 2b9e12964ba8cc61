"""Convolution, Deconvolution and Im2col against sums over kernel positions, one at a time, in float64."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close

#        bottom               convolution_param besides num_output       kernel    stride    pad      dilation
CASES = [
    ((2, 3, 7, 5), "kernel_size: 3", (3, 3), (1, 1), (0, 0), (1, 1)),
    ((3, 4, 9, 6), "kernel_size: 3 pad: 1 stride: 2 group: 2", (3, 3), (2, 2), (1, 1), (1, 1)),
    (
        (2, 4, 11, 8),
        "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 2 pad_w: 0",
        (3, 2),
        (1, 3),
        (2, 0),
        (1, 1),
    ),
    (
        (1, 4, 12, 13),
        "kernel_size: 3 kernel_size: 2 dilation: 2 dilation: 3 pad: 3",
        (3, 2),
        (1, 1),
        (3, 3),
        (2, 3),
    ),
    ((2, 6, 5, 4), "kernel_size: 1 group: 2", (1, 1), (1, 1), (0, 0), (1, 1)),
    ((2, 4, 6, 6), "kernel_size: 1 stride: 2 pad: 1", (1, 1), (2, 2), (1, 1), (1, 1)),
    ((2, 2, 3, 3), "kernel_size: 2 pad: 5 stride: 3", (2, 2), (3, 3), (5, 5), (1, 1)),
    ((1, 16, 70, 65), "kernel_size: 5 pad: 2", (5, 5), (1, 1), (2, 2), (1, 1)),  # more than one tile an image
    ((1, 16, 70, 65), "kernel_size: 5 pad: 2 stride: 2", (5, 5), (2, 2), (2, 2), (1, 1)),
    ((40, 2, 9, 7), "kernel_size: 3", (3, 3), (1, 1), (0, 0), (1, 1)),  # more than one image a tile
    ((2, 4, 9), "kernel_size: 3 stride: 2 pad: 1", (3,), (2,), (1,), (1,)),
    (
        (2, 2, 5, 4, 3),
        "kernel_size: 2 kernel_size: 3 kernel_size: 1 pad: 1",
        (2, 3, 1),
        (1,) * 3,
        (1,) * 3,
        (1,) * 3,
    ),
    ((5, 4), "", (), (), (), ()),
    ((0, 4, 6, 6), "kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), (1, 1)),
]
OUTPUTS = 6


def reach(x, out, position, stride, dilation):
    """What all outputs see of the padded x at one kernel position: a view."""
    return x[
        (
            ...,
            *(slice(k * d, k * d + (m - 1) * s + 1, s) for k, d, m, s in zip(position, dilation, out, stride)),
        )
    ]


def padded(x, pad):
    return np.pad(np.asarray(x, float), [(0, 0), (0, 0), *((p, p) for p in pad)])


def dense(w, group):
    """Weights (O, C / group, ...) with the zeros that groups leave out: (O, C, ...)."""
    full = np.zeros((w.shape[0], w.shape[1] * group, *w.shape[2:]))
    rows, columns = w.shape[0] // group, w.shape[1]
    for g in range(group):
        full[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = w[g * rows : (g + 1) * rows]
    return full


def undense(w, group):
    rows, columns = w.shape[0] // group, w.shape[1] // group
    parts = [w[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] for g in range(group)]
    return np.concatenate(parts)


def conv(x, w, out, stride, pad, dilation):
    y = np.zeros((x.shape[0], w.shape[0], *out))
    source = padded(x, pad)
    for position in np.ndindex(*w.shape[2:]):
        y += np.einsum("nc...,oc->no...", reach(source, out, position, stride, dilation), w[(..., *position)])
    return y


def conv_transposed(dy, w, size, stride, pad, dilation):
    dx = padded(np.zeros((dy.shape[0], w.shape[1], *size)), pad)
    for position in np.ndindex(*w.shape[2:]):
        view = reach(dx, dy.shape[2:], position, stride, dilation)
        view += np.einsum("no...,oc->nc...", dy, w[(..., *position)])
    return dx[(..., *(slice(p, p + n) for p, n in zip(pad, size)))]


def conv_weights(x, dy, w_shape, stride, pad, dilation):
    dw = np.zeros(w_shape)
    source = padded(x, pad)
    for position in np.ndindex(*w_shape[2:]):
        seen = reach(source, dy.shape[2:], position, stride, dilation)
        axes = (0, *range(2, dy.ndim))
        dw[(..., *position)] = np.tensordot(dy, seen, (axes, axes))
    return dw


def set_random(built, random):
    values = [random.standard_normal(blob.shape).astype("f4") for blob in built.layer.blobs]
    for blob, value in zip(built.layer.blobs, values):
        blob.data[...] = built.engine.asarray(value)
        blob.diff[...] = 1  # gradients are added to
    return values


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_convolution(case, bias, engine):
    shape, text, kernel, *window = case
    random = np.random.default_rng(1)
    x = random.standard_normal(shape).astype("f4")
    fields = f"num_output: {OUTPUTS} bias_term: {str(bias).lower()} {text}"
    built = Built(f'type: "Convolution" convolution_param {{ {fields} }}', x, engine=engine)
    group = built.param.convolution_param.group
    w, *rest = set_random(built, random)
    assert w.shape == (OUTPUTS, shape[1] // group, *kernel)
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(shape[2:], kernel, *window)]
    expected = conv(x, dense(w, group), out, *window)
    if bias:
        expected += rest[0].reshape(-1, *[1] * len(out))
    assert_close(built.forward()[0], expected)
    dy = random.standard_normal(expected.shape).astype("f4")
    (dx,) = built.backward(dy)
    assert_close(dx, conv_transposed(dy, dense(w, group), shape[2:], *window))
    dw = conv_weights(x, dy, (OUTPUTS, shape[1], *kernel), *window)
    assert_close(built.host(built.layer.blobs[0].diff), 1 + undense(dw, group))
    if bias:
        assert_close(built.host(built.layer.blobs[1].diff), 1 + dy.sum(axis=(0, *range(2, dy.ndim)), dtype=float))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "case",
    [c for c in CASES if min([0, *(c[0][i + 2] - 2 * p for i, p in enumerate(c[4]))]) >= 0],
    ids=lambda c: f"{c[0]} {c[1]}",
)
def test_deconvolution(case, engine):
    shape, text, kernel, *window = case
    random = np.random.default_rng(2)
    x = random.standard_normal(shape).astype("f4")
    built = Built(f'type: "Deconvolution" convolution_param {{ num_output: {OUTPUTS} {text} }}', x, engine=engine)
    group = built.param.convolution_param.group
    w, bias = set_random(built, random)
    assert w.shape == (shape[1], OUTPUTS // group, *kernel)
    size = [s * (n - 1) + d * (k - 1) + 1 - 2 * p for n, k, s, p, d in zip(shape[2:], kernel, *window)]
    expected = conv_transposed(x.astype(float), dense(w, group), size, *window) + bias.reshape(-1, *[1] * len(size))
    assert_close(built.forward()[0], expected)
    dy = random.standard_normal(expected.shape).astype("f4")
    (dx,) = built.backward(dy)
    assert_close(dx, conv(dy, dense(w, group), shape[2:], *window))
    dw = conv_weights(dy, x, (shape[1], OUTPUTS, *kernel), *window)
    assert_close(built.host(built.layer.blobs[0].diff), 1 + undense(dw, group))
    assert_close(built.host(built.layer.blobs[1].diff), 1 + dy.sum(axis=(0, *range(2, dy.ndim)), dtype=float))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_im2col_is_a_convolution_with_an_identity(case, engine):
    shape, text, kernel, *window = case
    random = np.random.default_rng(3)
    x = random.standard_normal(shape).astype("f4")
    built = Built(f'type: "Im2col" convolution_param {{ {text} }}', x, engine=engine)
    depth = shape[1] * int(np.prod(kernel))
    w = np.eye(depth).reshape(depth, shape[1], *kernel)
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(shape[2:], kernel, *window)]
    expected = conv(x, w, out, *window)
    assert_close(built.forward()[0], expected, 0)
    dy = random.standard_normal(expected.shape).astype("f4")
    assert_close(built.backward(dy)[0], conv_transposed(dy, w, shape[2:], *window))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("axis", [0, 2, -2])
def test_axes_before_the_channels_are_items(layer_type, axis, engine):
    x = np.random.default_rng(4).standard_normal((3, 4, 2, 5)).astype("f4")
    channel = axis % 4
    size = "kernel_size: 2 " + "pad: 1 " * (channel != 2)
    filler = 'weight_filler { type: "constant" value: 0.5 } bias_filler { type: "constant" value: 1 }'
    fields = f"num_output: 3 {size} {filler}"
    built = Built(f'type: "{layer_type}" convolution_param {{ {fields} axis: {axis} }}', x, engine=engine)
    folded = x.reshape(-1, *x.shape[channel:])
    other = Built(f'type: "{layer_type}" convolution_param {{ {fields} }}', folded, engine=engine)
    (y,), (z,) = built.forward(), other.forward()
    assert y.shape == (*x.shape[:channel], *z.shape[1:])
    assert_close(y.reshape(z.shape), z)
    dy = np.random.default_rng(5).standard_normal(y.shape).astype("f4")
    assert_close(built.backward(dy)[0], other.backward(dy.reshape(z.shape))[0].reshape(x.shape))
    for mine, theirs in zip(built.layer.blobs, other.layer.blobs):
        assert_close(built.host(mine.diff), other.host(theirs.diff))


@pytest.mark.parametrize("engine", ENGINES)
def test_several_bottoms_share_the_filters(engine):
    random = np.random.default_rng(6)
    a, b = random.standard_normal((2, 2, 3, 5, 4)).astype("f4")
    text = 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 }'
    both = Built(text, a, b, engine=engine, tops=2)
    joined = Built(text, np.concatenate([a, b]), engine=engine)
    for built in (both, joined):
        set_random(built, np.random.default_rng(7))
    (y,) = joined.forward()
    assert_close(np.concatenate(both.forward()), y)
    dy = random.standard_normal(y.shape).astype("f4")
    dx = joined.backward(dy)[0]
    assert_close(np.concatenate(both.backward(dy[:2], dy[2:])), dx)
    for mine, theirs in zip(both.layer.blobs, joined.layer.blobs):
        assert_close(both.host(mine.diff), joined.host(theirs.diff))


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_that_nobody_wants_are_left_alone(engine):
    built = Built(
        'type: "Convolution" convolution_param { num_output: 2 kernel_size: 2 }',
        np.ones((1, 1, 3, 3)),
        engine=engine,
    )
    built.layer.param_propagate_down = [False, False]
    built.forward()
    (dx,) = built.backward(np.ones((1, 2, 2, 2), "f4"), propagate_down=[False])
    assert not dx.any()
    assert not any(built.host(blob.diff).any() for blob in built.layer.blobs)


WITH_PLANS = [
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }',
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 2 stride: 2 }',
    'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 3 stride: 2 }',
    'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }',
    'type: "LRN" lrn_param { norm_region: WITHIN_CHANNEL }',
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("definition", WITH_PLANS)
def test_plans_are_made_in_reshape_alone(definition, engine, monkeypatch):
    x = np.random.default_rng(1).random((2, 8, 9, 9))
    built = Built(definition, x, engine=engine)
    made = []
    for name in ("conv_plan", "pool_plan"):
        monkeypatch.setattr(built.engine, name, lambda *args, name=name: made.append(name))
    monkeypatch.setattr("caffepy.engine.window.Window.conv_shape", None)
    monkeypatch.setattr("caffepy.engine.numpy.winograd.plan", None)
    monkeypatch.setattr("caffepy.engine.numpy.tiles.tiles", None)
    built.layer.forward(built.bottom, built.top)
    built.backward(built.top[0].host())
    assert not made


@pytest.mark.parametrize("engine", ENGINES)
def test_bottom_may_change_size(engine):
    built = Built(
        'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 }',
        np.ones((1, 2, 5, 5)),
        engine=engine,
    )
    built.bottom[0].reshape(3, 2, 4, 6)
    assert built.forward()[0].shape == (3, 2, 2, 4)
    built.bottom[0].reshape(3, 1, 4, 6)
    message = "bottom 0 has shape (3, 1, 4, 6); the layer was built for 2 channels on axis 1 and 2 spatial axes"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        built.forward()


REFUSED = [
    (
        "num_output: 2 kernel_size: 5 pad: 1",
        (1, 4, 2, 9),
        'the kernel 5x5 (extent 5x5) is larger than the padded input 4x11 (bottom "x" is 2x9)',
    ),
    (
        "num_output: 2 kernel_size: 3 dilation: 4",
        (1, 4, 8, 9),
        'the kernel 3x3 (extent 9x9) is larger than the padded input 8x9 (bottom "x" is 8x9)',
    ),
    (
        "num_output: 6 kernel_size: 1 group: 3",
        (1, 4, 3, 3),
        "group 3 must divide both the 4 input channels and num_output 6",
    ),
    (
        "num_output: 6 kernel_size: 1 group: 4",
        (1, 4, 3, 3),
        "group 4 must divide both the 4 input channels and num_output 6",
    ),
    (
        "num_output: 2 kernel_size: 1 group: 0",
        (1, 4, 3, 3),
        "group 0 must divide both the 4 input channels and num_output 2",
    ),
    ("num_output: 2 kernel_size: 1", (2, 0, 3, 3), '"x" has shape (2, 0, 3, 3): it has no channels'),
    ("kernel_size: 1", (1, 4, 3, 3), "convolution_param.num_output must be at least 1"),
    ("num_output: 2", (1, 4, 3, 3), "kernel_size is not set\n  Set kernel_size, or kernel_h and kernel_w."),
    (
        "num_output: 2 kernel_size: 3 kernel_h: 3",
        (1, 4, 3, 3),
        "both kernel_size and kernel_h / kernel_w are given\n  Keep one of the two forms.",
    ),
    ("num_output: 2 kernel_h: 3", (1, 4, 3, 3), "kernel_h and kernel_w must both be given"),
    ("num_output: 2 kernel_size: 1 stride_h: 2", (1, 4, 3, 3), "stride must be at least 1, got 2x0"),
    ("num_output: 2 kernel_size: 0", (1, 4, 3, 3), "kernel_size must be at least 1, got 0x0"),
    ("num_output: 2 kernel_size: 1 dilation: 0", (1, 4, 3, 3), "dilation must be at least 1, got 0x0"),
    (
        "num_output: 2 kernel_h: 3 kernel_w: 3",
        (1, 4, 3),
        "kernel_h and kernel_w need two spatial axes, the bottom has 1",
    ),
    (
        "num_output: 2 kernel_size: [1, 1, 1]",
        (1, 4, 3, 3),
        "kernel_size is given 3 time(s), for 2 spatial axes it must be once or 2 times",
    ),
    (
        "num_output: 2 kernel_size: 1 axis: 4",
        (1, 4, 3, 3),
        "axis 4 is out of range for a bottom with 4 axes (-4 to 3)",
    ),
]


@pytest.mark.parametrize("fields, shape, message", REFUSED)
def test_refused(fields, shape, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(f'type: "Convolution" bottom: "x" convolution_param {{ {fields} }}', np.zeros(shape))


def test_deconvolution_refuses_an_empty_output():
    message = 'bottom "x" of 2x3 gives an empty output 0x1'
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built(
            'type: "Deconvolution" bottom: "x" convolution_param { num_output: 1 kernel_size: 1 pad: 1 }',
            np.zeros((1, 1, 2, 3)),
        )


def test_bottoms_must_have_one_shape_and_a_top_each():
    text = 'type: "Convolution" bottom: "a" bottom: "b" convolution_param { num_output: 2 kernel_size: 1 }'
    message = 'bottoms must have one shape, but "a" is (1, 2, 3, 3) and "b" is (1, 2, 3, 4)'
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built(text, np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 4)), tops=2)
    message = "2 bottom(s) but 1 top(s); there must be one top for each bottom"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(text, np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 3)))
