"""HashIds: ids of any size to few buckets."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register

MASK = 0xFFFFFFFF
FIRST, SECOND = 0x85EBCA6B, 0xC2B2AE35


def mixed(h):
    """The last step of MurmurHash3, on the lower 32 bits."""
    h = ((h ^ (h >> 16)) * FIRST) & MASK
    h = ((h ^ (h >> 13)) * SECOND) & MASK
    return h ^ (h >> 16)


def hash_ids(xp, x, num_buckets, start):
    whole = xp.astype(x, xp.int64)
    low, high = whole & MASK, (whole >> 32) & MASK
    return xp.astype(mixed(mixed(low ^ start) ^ high) % num_buckets, x.dtype)


@register("HashIds")
class HashIds(Elementwise):
    """y = hash(x) mod `hash_ids_param.num_buckets`: the same id the same bucket, in every run, on every machine.

    x, any shape, holds whole numbers (exact below 2^24 in a blob); they are truncated towards zero. `seed` chooses
    another hash, so that two of them tell apart most ids that one confuses. No gradient.
    """

    function = staticmethod(hash_ids)

    def arguments(self):
        p = self.param.hash_ids_param
        if not 1 <= p.num_buckets <= 1 << 24:
            raise ConfigError(f"hash_ids_param.num_buckets must lie in 1 .. {1 << 24}, got {p.num_buckets}")
        return p.num_buckets, mixed(p.seed)
