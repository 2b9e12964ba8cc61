"""Steps of recurrent nets with numpy: in place, a pass a line, on what a part of a batch keeps in the cache."""

from __future__ import annotations

import numpy as np

from caffepy.engine.recurrent import parts

Array = np.ndarray


def lstm(z: Array, c_prev: Array, kept: Array | None, c: Array, squashed: Array, h: Array, free: Array) -> None:
    np.tanh(z, out=z)
    gates = z[:, : -c.shape[1]]
    gates *= 0.5
    gates += 0.5
    i, f, o, g = parts(z, 4)
    if kept is not None:
        f *= kept
    np.multiply(f, c_prev, out=c)
    np.multiply(i, g, out=free)
    c += free
    np.tanh(c, out=squashed)
    np.multiply(o, squashed, out=h)


def lstm_grad(dh: Array, dc: Array, z: Array, c_prev: Array, squashed: Array, dz: Array, free: Array) -> None:
    i, f, o, g = parts(z, 4)
    di, df, do, dg = parts(dz, 4)
    np.multiply(squashed, squashed, out=free)
    np.subtract(1, free, out=free)
    free *= o
    free *= dh
    dc += free
    gates, slopes = z[:, : -dh.shape[1]], dz[:, : -dh.shape[1]]
    np.subtract(1, gates, out=slopes)
    slopes *= gates
    np.multiply(dc, g, out=free)
    di *= free
    np.multiply(dc, c_prev, out=free)
    df *= free
    np.multiply(dh, squashed, out=free)
    do *= free
    np.multiply(g, g, out=dg)
    np.subtract(1, dg, out=dg)
    dg *= i
    dg *= dc
    dc *= f


def gru(z: Array, u: Array, h_prev: Array, h: Array) -> None:
    size = h.shape[1]
    gates, n, u_n = z[:, : 2 * size], z[:, 2 * size :], u[:, 2 * size :]
    gates += u[:, : 2 * size]
    np.tanh(gates, out=gates)
    gates *= 0.5
    gates += 0.5
    np.multiply(z[:, :size], u_n, out=h)
    n += h
    np.tanh(n, out=n)
    np.subtract(h_prev, n, out=h)
    h *= z[:, size : 2 * size]
    h += n


def gru_grad(dh: Array, z: Array, u_n: Array, h_prev: Array, d: Array) -> None:
    size = dh.shape[1]
    gates, n = z[:, : 2 * size], z[:, 2 * size :]
    dn, dr, dz, du = parts(d, 4)
    slopes = d[:, size : 3 * size]
    np.subtract(1, gates, out=slopes)
    np.multiply(slopes[:, size:], dh, out=dn)
    slopes *= gates
    np.multiply(n, n, out=du)
    np.subtract(1, du, out=du)
    dn *= du
    np.subtract(h_prev, n, out=du)
    du *= dh
    dz *= du
    np.multiply(dn, u_n, out=du)
    dr *= du
    np.multiply(dn, gates[:, :size], out=du)
    dh *= gates[:, size:]
