"""What the domains of the tests do. A module of its own, so that a domain imports nothing of a test."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import trio

from xenlike.domain.domain import Domain
from xenlike.errors import HypercallError


async def returns(domain: Domain) -> str:
    return "nobody asks for this"


def returns_at_once(domain: Domain) -> None:
    assert threading.current_thread() is not threading.main_thread()


async def says(domain: Domain, *words: object) -> None:
    print(f"d{domain.domid} {domain.name}:", *words)


def says_at_once(domain: Domain, *words: object) -> None:
    print(f"d{domain.domid} {domain.name}:", *words)


async def raises(domain: Domain) -> None:
    raise RuntimeError("broken on purpose")


def raises_at_once(domain: Domain) -> None:
    raise RuntimeError("broken on purpose")


async def exits(domain: Domain, code: int | str | None) -> None:
    await trio.lowlevel.checkpoint()
    sys.exit(code)


def exits_at_once(domain: Domain, code: int | str | None) -> None:
    sys.exit(code)


async def leaves(domain: Domain, status: int) -> None:
    os._exit(status)


async def shuts_down(domain: Domain, reason: int) -> None:
    domain.hypercalls.shutdown(reason)


async def kills_itself(domain: Domain, number: int) -> None:
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    await trio.sleep_forever()


async def waits(domain: Domain) -> None:
    print("ready")
    await trio.sleep_forever()


def waits_at_once(domain: Domain) -> None:
    print("ready")
    threading.Event().wait()


async def tidies_up(domain: Domain) -> None:
    try:
        print("ready")
        await trio.sleep_forever()
    finally:
        print("tidied up")


async def ignores_requests(domain: Domain) -> None:
    with trio.CancelScope(shield=True):
        print("ready")
        await trio.sleep_forever()


async def talks(domain: Domain, lines: int) -> None:
    for number in range(lines):
        print(f"{number:07d} {'x' * 56}")


async def listens(domain: Domain) -> None:
    assert domain.console is not None
    print("ready")
    text = b""
    async for data in domain.console.read():
        text += data
        if b"\n" in text:
            break
    print("heard", text.decode().strip())


async def crashes_until(domain: Domain, path: str, lives: int) -> None:
    """Counts its lives in a file; crashes in all but the last."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"x")
    if os.fstat(fd).st_size < lives:
        raise RuntimeError("not yet")
    await waits(domain)


async def allocates(domain: Domain) -> None:
    print("ram", len(domain.memory.ram))
    domain.memory.ram[-4096:] = b"x" * 4096
    windows, pages = [], 0
    while True:
        try:
            windows.append(domain.memory.alloc(0, 64))
        except HypercallError as error:
            print("refused", error)
            break
        windows[-1].buffer[:] = bytes(64 * 4096)
        pages += 64
    print("pages", pages)


async def echoes(domain: Domain, text: str) -> None:
    from xenlike.frontends.echo import EchoFront

    echo = await domain.device("echo", 0)
    assert isinstance(echo, EchoFront)
    print("echo", (await echo.upper(text.encode())).decode())


async def reads(domain: Domain, offset: int, length: int) -> None:
    disk = await domain.disk("xvda")
    print("disk", (await disk.read(offset, length))[:16])


def reads_at_once(domain: Domain, offset: int, length: int) -> None:
    disk = domain.run(domain.disk, "xvda")
    print("disk", domain.run(disk.read, offset, length)[:16])


def prints_its_surroundings(domain: Domain) -> None:
    print("cwd", os.getcwd())
    print("descriptors", sorted(os.listdir("/proc/self/fd")))
    print("name", Path("/proc/self/comm").read_text().strip())
