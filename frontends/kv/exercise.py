"""A key-value store in use, for checks and benchmarks; the keys are its own, and are deleted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from xenlike.frontends.kv.errors import KeyMissing

if TYPE_CHECKING:
    from random import Random

    from xenlike.frontends.kv import KvFront

_runs = itertools.count()


async def exercise(kv: KvFront, dice: Random) -> None:
    """Keeps a value, reads it back, deletes it, and is told so; see `xenlike.abi.driver.Driver`."""
    # Nobody else's, also in a store that guests share: their dice may be the same.
    key = b"exercise d%d %d" % (kv.domain.domid, next(_runs))
    value = dice.randbytes(dice.choice((0, 100, 4096, 4097, dice.randint(0, kv.max_value))))
    while True:
        epoch = kv.epoch
        try:
            version = await kv.put(key, value)
            assert await kv.get(key) == (value, version)
        except KeyMissing:
            # A store that begins anew, with its domain, has lost what was in it; another one has not.
            if kv.epoch == epoch:
                raise
            continue
        await kv.delete(key)
        assert await kv.changed(key, version) == 0
        return
