"""A process that runs already, and becomes a domain when it is given a hypercall socket: `adopted.py FD`.

It tells on its standard output what it does, and does what it is told on its standard input.
"""

from __future__ import annotations

import socket
import sys

import trio

from xenlike import Domain


async def main(domain: Domain) -> None:
    async with domain.running():
        await domain.store.write("data/adopted", "yes")
        say(f"d{domain.domid} {domain.name}")
        if domain.console is not None:
            domain.console.write(f"hello from d{domain.domid}\n".encode())
        while True:
            word = await trio.to_thread.run_sync(sys.stdin.readline)
            if word.strip() == "shutdown":
                domain.hypercalls.shutdown(1)
            if word.strip() == "return":
                return
            if word.strip() == "hang up":
                domain.close()
                say("hung up")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    say("running")
    trio.run(main, Domain(socket.socket(fileno=int(sys.argv[1]))))
