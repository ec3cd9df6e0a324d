"""A driver in one file: text that a guest writes into shared memory comes back in capitals."""

from xenlike import Device, Domain, open_machine
from xenlike.xenbus import Backend, Driver, Frontend, Protocol, Struct, gref_t, retried, u16, u64


class Request(Struct):
    id: u64 = 0
    gref: gref_t = 0
    size: u16 = 0


class Response(Struct):
    id: u64 = 0


ECHO = Protocol("echo", Request, Response)


class EchoFront(Frontend[Request, Response], protocol=ECHO):
    pool_pages = 8

    @retried
    async def upper(self, text: bytes) -> bytes:
        async with self.pages.take() as page:
            page.data[: len(text)] = text
            await self.request(Request(gref=page.gref, size=len(text)))
            return bytes(page.data[: len(text)])


class EchoBack(Backend[Request, Response], protocol=ECHO):
    async def handle(self, request: Request) -> Response:
        page = self.foreign.page(request.gref)
        page[: request.size] = bytes(page[: request.size]).upper()
        return Response()


DRIVER = Driver("echo", ECHO, f"{__file__}:EchoFront", f"{__file__}:EchoBack")


async def guest(domain: Domain) -> None:
    echo = await domain.device("echo", kind=EchoFront)
    print((await echo.upper(b"hello from a guest")).decode())


if __name__ == "__main__":
    with open_machine("echo") as machine:
        machine.spawn("driver", backends=["echo"], drivers=[DRIVER])
        machine.spawn("guest", guest, devices=[Device("echo", backend="driver", driver=DRIVER)]).wait()
