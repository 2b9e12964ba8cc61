"""A step of recurrent nets, elementwise: what `Engine.lstm` and its like compute."""

from __future__ import annotations


def opened(xp, half_sum):
    """The sigmoid of twice the argument: a third faster than the exact form, and as stable."""
    return 0.5 * xp.tanh(half_sum) + 0.5


def lstm(xp, i, f, o, g, c_prev, kept):
    """Gates and candidate, the memory c, tanh(c), the output h. The sums of i, f, o are halved."""
    i, f, o, g = opened(xp, i), opened(xp, f), opened(xp, o), xp.tanh(g)
    if kept is not None:
        f = f * kept
    c = f * c_prev + i * g
    squashed = xp.tanh(c)
    return i, f, o, g, c, squashed, o * squashed


def lstm_grad(xp, dh, dc, i, f, o, g, c_prev, squashed):
    """Gradients of the four sums and of c_prev. As in Caffe f holds the marker, also in the factor 1 - f."""
    dc = dc + dh * o * (1 - squashed * squashed)
    di, df, do = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dh * squashed * o * (1 - o)
    return di, df, do, dc * i * (1 - g * g), dc * f


def gru(xp, r, z, n, u_r, u_z, u_n, h_prev):
    """Gates and candidate, and h. The sums of r and z are halved, u is what h_prev adds to the sums."""
    r, z = opened(xp, r + u_r), opened(xp, z + u_z)
    n = xp.tanh(n + r * u_n)
    return r, z, n, n + z * (h_prev - n)


def gru_grad(xp, dh, r, z, n, u_n, h_prev):
    """Gradients of the sums n, r, z, of u_n, and of h_prev as far as it is in h itself."""
    dn = dh * (1 - z) * (1 - n * n)
    return dn, dn * u_n * r * (1 - r), dh * (h_prev - n) * z * (1 - z), dn * r, dh * z


def parts(array, count: int):
    """Views of (n, count D) as `count` arrays (n, D)."""
    size = array.shape[-1] // count
    return tuple(array[..., k * size : (k + 1) * size] for k in range(count))
