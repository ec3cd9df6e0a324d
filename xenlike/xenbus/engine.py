"""Native engines: a queue that is served by a thread in C.

    class AdderBack(Backend[Request, Response], protocol=ADDER):
        async def serve(self, queue):
            await run_engine(queue, lib.adder_engine)

The engine is a C function that runs without Python's lock, as those called through cffi and ctypes do:

    int adder_engine(uintptr_t ring, int rx, int tx, int stop, void *context);

`xl_engine.h` of `xenlike._core` has its loop.

1. The queue lets go of its ring: from now on only the engine touches it.
2. The engine runs in a thread of its own; trio goes on.
3. Whatever ends `serve` (a detach, the frontend's death) makes `stop` readable and waits until the engine has
   returned, shielded: the ring is unmapped only after that.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import trio

from xenlike.errors import PeerGone, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from xenlike.xenbus.backqueue import BackQueue


async def run_engine(queue: BackQueue, engine: Callable[..., int], context: Any = None) -> None:
    """Has an engine serve a queue; ends by being cancelled, or with the error that ended the engine.

    Args:
        queue: of a connected backend, in its `serve`.
        engine: the C function. It returns 0 once `stop` is readable, and -errno when it gives up.
        context: its last argument, such as `ffi.NULL`; kept alive until the engine has returned.

    Raises:
        PeerGone: the frontend is gone (-EPIPE).
        ProtocolError: the frontend broke the ring, or sent a request that ends the connection (-EPROTO).
        OSError: the engine gave up for another reason.
    """
    stop_rx, stop_tx = os.pipe2(os.O_CLOEXEC)
    try:
        with queue.handed_over() as ring:
            result = await _returned(engine, (*ring, stop_rx, context), stop_tx)
    finally:
        os.close(stop_rx)
        os.close(stop_tx)
    await trio.lowlevel.checkpoint()
    if result == -errno.EPIPE:
        raise PeerGone("the frontend is gone")
    if result == -errno.EPROTO:
        # A broken ring says itself by what it was broken.
        queue.check()
        raise ProtocolError("the engine refused a request")
    if result < 0:
        raise OSError(-result, os.strerror(-result))


async def _returned(engine: Callable[..., int], arguments: tuple[object, ...], stop: int) -> int:
    """Runs an engine in a thread, and tells it to stop when the caller is cancelled."""
    results: list[int] = []

    async def run() -> None:
        # It touches the ring until it returns, so nothing ends this task before. Engines do not count against trio's
        # threads, which others need for what ends.
        with trio.CancelScope(shield=True):
            results.append(await trio.to_thread.run_sync(engine, *arguments, limiter=trio.CapacityLimiter(1)))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            await trio.sleep(float("inf"))
        finally:
            os.write(stop, b"x")
    return results[0]
