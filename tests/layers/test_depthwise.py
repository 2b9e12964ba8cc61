"""ConvolutionDepthwise and DepthwiseConvolution: Convolution with one group a channel."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.support import ENGINES, Built, assert_close

X = np.random.default_rng(0).standard_normal((2, 4, 7, 6)).astype("f4")
WINDOW = "kernel_size: 3 pad: 1 stride: 2"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "kind, fields",
    [
        ("ConvolutionDepthwise", ""),
        ("ConvolutionDepthwise", "num_output: 32 group: 2"),  # whatever is said
        ("DepthwiseConvolution", "num_output: 4 group: 4"),
    ],
)
@pytest.mark.parametrize("bias", ["", "bias_term: false"])
def test_the_same_as_groups(bias, kind, fields, engine):
    text = f'type: "{kind}" convolution_param {{ {fields} {WINDOW} {bias} }}'
    same = f'type: "Convolution" convolution_param {{ num_output: 4 group: 4 {WINDOW} {bias} }}'
    ours, reference = Built(text, X, engine=engine), Built(same, X, engine=engine)
    assert [b.shape for b in ours.layer.blobs] == [(4, 1, 3, 3), (4,)][: 1 if bias else 2]
    for i, blob in enumerate(ours.layer.blobs):
        values = np.random.default_rng(i).standard_normal(blob.shape)
        blob.fill(values)
        reference.layer.blobs[i].fill(values)
    assert_close(ours.forward()[0], reference.forward()[0])
    dy = np.random.default_rng(9).standard_normal(ours.top[0].shape).astype("f4")
    assert_close(ours.backward(dy)[0], reference.backward(dy)[0])
    for a, b in zip(ours.layer.blobs, reference.layer.blobs):
        assert_close(ours.host(a.diff), reference.host(b.diff))


def test_refused():
    message = (
        'group 2 and num_output 4 must both be 4, the number of channels\n  Write type: "Convolution" for other groups.'
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(f'type: "DepthwiseConvolution" convolution_param {{ num_output: 4 group: 2 {WINDOW} }}', X)
