"""A backend in C: the frontend's requests are answered by a thread that never takes Python's lock."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from cffi import FFI

from xenlike import Device, Domain, _core, open_machine
from xenlike.xenbus import Backend, BackQueue, Driver, Frontend, Protocol, Struct, retried, run_engine, u32, u64

HERE = Path(__file__).resolve().parent
CORE = Path(_core.__file__).resolve().parent  # the core's headers and C files come with the package

ffi = FFI()
ffi.cdef("int adder_engine(uintptr_t ring, int rx, int tx, int stop, void *context);")


class Request(Struct, c="adder_request"):
    id: u64 = 0
    a: u32 = 0
    b: u32 = 0


class Response(Struct, c="adder_response"):
    id: u64 = 0
    sum: u64 = 0


ADDER = Protocol("adder", Request, Response)


@cache
def library():
    """Compiles the engine; a package of yours does this when it is built."""
    with tempfile.TemporaryDirectory() as folder:
        built = f"{folder}/adder.so"
        sources = [
            HERE / "adder.c",
            *(CORE / f"{name}.c" for name in ["xl_ring", "xl_recorder", "xl_event", "xl_process", "xl_spin"]),
        ]
        subprocess.run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", f"-I{CORE}", "-o", built, *sources], check=True)
        return ffi.dlopen(built)


class AdderFront(Frontend[Request, Response], protocol=ADDER):
    @retried
    async def add(self, a: int, b: int) -> int:
        return (await self.request(Request(a=a, b=b))).sum


class AdderBack(Backend[Request, Response], protocol=ADDER):
    async def serve(self, queue: BackQueue[Request, Response]) -> None:
        self.answered = ffi.new("uint64_t *")
        await run_engine(queue, library().adder_engine, self.answered)


DRIVER = Driver("adder", ADDER, f"{__file__}:AdderFront", f"{__file__}:AdderBack")


async def guest(domain: Domain) -> None:
    adder = await domain.device("adder", kind=AdderFront)
    print("2 + 3 =", await adder.add(2, 3))


if __name__ == "__main__":
    with open_machine("adder") as machine:
        machine.spawn("driver", backends=["adder"], drivers=[DRIVER])
        machine.spawn("guest", guest, devices=[Device("adder", backend="driver", driver=DRIVER)]).wait()
