"""Cross: a layer of the deep and cross network."""

from __future__ import annotations

from math import prod

from caffepy.errors import ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("Cross")
class Cross(Layer):
    """y = x0 (W x + b) + x, element by element but for W x: a cross layer of DCN v2 (Wang et al. 2021).

    Bottoms: x0 (N, K), the net's input, and x, the cross layer before (only x0: the first one); the axes behind the
    first are flattened. W (K, K), or with `rank` r the product of U (K, r) and V (r, K); b (K,).
    """

    num_bottom = (1, 2)
    in_place = "refused"  # a matrix product reads all of an item for each output

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.cross_param
        self.depth = prod(bottom[0].shape[1:])
        shapes = [(self.depth, p.rank), (p.rank, self.depth)] if p.rank else [(self.depth, self.depth)]
        for shape in shapes:
            self.add_blob(shape, p.weight_filler)
        self.factors = len(shapes)
        if p.bias_term:
            self.add_blob((self.depth,), p.bias_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check_same_shape(bottom)
        if prod(bottom[0].shape[1:]) != self.depth:
            raise ShapeError(f"{self.bottom_name(0)} is {bottom[0].shape}, the weights are for {self.depth} values")
        top[0].reshape_like(bottom[0])

    def divisible(self) -> bool:
        return True

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        return 2 * bottom[0].shape[0] * sum(blob.count for blob in self.blobs[: self.factors])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x0, x = (self.by_item(blob.data) for blob in (bottom[0], bottom[-1]))
        self.inner, self.u = self._linear(x)
        top[0].data[...] = (x0 * self.u + x).reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        x0, x, dy = (self.by_item(array) for array in (bottom[0].data, bottom[-1].data, top[0].diff))
        du = dy * x0
        dx = self._linear_gradient(x, du) + dy
        if len(self.blobs) > self.factors and self.param_propagate_down[-1]:
            self.blobs[-1].diff[...] += self.xp.sum(du, axis=0)
        gradients = [dy * self.u, dx] if len(bottom) > 1 else [dy * self.u + dx]
        for blob, wanted, gradient in zip(bottom, propagate_down, gradients):
            if wanted:
                blob.diff[...] = gradient.reshape(blob.shape)

    def _linear(self, x: Array) -> tuple[Array, Array]:
        """V x, or x itself without a rank, and W x + b."""
        xp = self.xp
        inner = xp.matmul(x, self.blobs[1].data.T) if self.factors > 1 else x
        u = xp.matmul(inner, self.blobs[0].data.T)
        return inner, u + self.blobs[-1].data if len(self.blobs) > self.factors else u

    def _linear_gradient(self, x: Array, du: Array) -> Array:
        """Add to the gradients of the weights; the gradient of x."""
        if self.param_propagate_down[0]:
            self.engine.gemm(du.T, self.inner, self.blobs[0].diff, accumulate=True)
        dx = self.xp.matmul(du, self.blobs[0].data)
        if self.factors > 1:
            if self.param_propagate_down[1]:
                self.engine.gemm(dx.T, x, self.blobs[1].diff, accumulate=True)
            dx = self.xp.matmul(dx, self.blobs[1].data)
        return dx
