"""Ways to run the daemon: as the store domain of a machine, or alone on a socket."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from xenlike.abi import hypercall as hc
from xenlike.abi.grant_table import GNTTAB_RESERVED_XENSTORE
from xenlike.abi.xen import DOMID_FIRST_RESERVED, VIRQ_DOM_EXC
from xenlike.xenstored.rules import Refused
from xenlike.xenstored.server import Server

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain

__all__ = ["main", "run_alone", "serve"]

logger = logging.getLogger(__name__)

_STATES = {
    hc.XENLIKE_DOMAIN_BUILDING: "running",
    hc.XENLIKE_DOMAIN_RUNNING: "running",
    hc.XENLIKE_DOMAIN_SHUTDOWN: "shutdown",
    hc.XENLIKE_DOMAIN_DYING: "dying",
    hc.XENLIKE_DOMAIN_DEAD: "dying",
}


def serve(domain: Domain) -> None:
    """Runs the store domain of a machine; does not return.

    It takes two resources if they are there: `socket`, a listening Unix socket for tools, and `log`,
    a memfd that a successor is given too. The configuration may have `introduce`, a list of
    `[domid, port]` to serve from the start, domain 0 among them.

    Args:
        domain: the privileged domain it runs in.

    Raises:
        OSError: the log cannot be written, or the hypervisor is gone.
        ValueError: the log is not a store's log.
    """
    server = Server(exists=lambda domid: _exists(domain, domid))
    server.use_rings(_mapper(domain), domain.events.bind)
    log = domain.resources.take("log")
    if log is not None and log.fd is not None:
        server.use_log(log.fd)
    introduce = domain.config.get("introduce")
    for domid, port in introduce if isinstance(introduce, list) else ():
        try:
            server.introduce(int(domid), int(port))
        except Refused as refused:
            logger.warning("d%s cannot be served: %s", domid, refused)
    tools = domain.resources.take("socket")
    if tools is not None and tools.fd is not None:
        server.listen(socket.socket(fileno=tools.fd), lambda pid: _is_tool(domain, pid))
    server.mourn_on(domain.events.bind_virq(VIRQ_DOM_EXC), lambda: _states(domain))
    server.run()


def _mapper(domain: Domain) -> Callable[[int], tuple[memoryview, Callable[[], None]]]:
    def map_page(domid: int) -> tuple[memoryview, Callable[[], None]]:
        mapping = domain.grants.map(domid, [GNTTAB_RESERVED_XENSTORE])
        return mapping.pages[0], mapping.unmap

    return map_page


def _states(domain: Domain) -> Callable[[int], str | None]:
    known = {info.domid: _STATES.get(info.state, "running") for info in domain.hypercalls.domain_infos()}
    return known.get


def _exists(domain: Domain, domid: int) -> bool:
    # As in Xen, the answer is about the first domain that is not below the one asked for.
    info = domain.hypercalls.domain_info(domid) if 0 <= domid < DOMID_FIRST_RESERVED else None
    return info is not None and info.domid == domid


def _is_tool(domain: Domain, pid: int) -> bool:
    """Says whether a process is none of the machine's domains, which are to use their rings."""
    domids = {info.domid for info in domain.hypercalls.domain_infos() if info.pid == pid}
    return not domids or 0 in domids


def run_alone(socket_path: Path, *, log_path: Path | None = None, log_fd: int | None = None) -> None:
    """Serves a Unix socket, without any domain, until SIGTERM or Ctrl-C.

    Args:
        socket_path: where tools find it; made here, for this user only, and removed at the end.
        log_path: a file from which the tree is built, and which is kept up to date; made if it is not there.
        log_fd: the same as a descriptor, of a memfd perhaps, which the caller keeps open.

    Raises:
        FileExistsError: another daemon serves this socket, or writes this log.
        OSError: the socket or the log cannot be made.
        ValueError: the log is not a store's log.
    """
    server = Server()
    previous = signal.signal(signal.SIGTERM, _stop)
    opened = -1
    try:
        # First the socket: whoever serves it may be writing this very log.
        with _listening(socket_path) as sock:
            if log_path is not None:
                opened = log_fd = _open_log(log_path)
            if log_fd is not None:
                server.use_log(log_fd)
            server.listen(sock)
            logger.info("ready: %s", socket_path)
            server.run()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)
        server.close()
        if opened >= 0:
            os.close(opened)


def _open_log(path: Path) -> int:
    """Opens a log that nobody else writes; the lock ends with the process."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            raise FileExistsError(f"{path}: another xenstored writes this log") from None
        raise
    return fd


def _stop(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Yields a socket that appears at the path only when it listens already."""
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                logger.info("%s: left over from a daemon that is gone", path)
            else:
                raise FileExistsError(f"{path}: another xenstored serves this socket")
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.bind(str(fresh))
            fresh.chmod(0o600)
            sock.listen(128)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        inode = path.stat().st_ino
        try:
            yield sock
        finally:
            with contextlib.suppress(OSError):
                # Another daemon may have put its own there meanwhile.
                if path.stat().st_ino == inode:
                    path.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the daemon from a command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m xenlike.xenstored",
        description="A xenstored on a Unix socket, for the xenstore-* tools and libxenstore (XENSTORED_PATH=PATH).",
    )
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="where to listen")
    log = parser.add_mutually_exclusive_group()
    log.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="keep the tree in this file, made if it is not there; the next daemon goes on from it",
    )
    log.add_argument("--log-fd", type=int, metavar="N", help="the same in an inherited descriptor")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more; twice for every detail")
    options = parser.parse_args(arguments)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    logging.basicConfig(level=level, format="xenstored: %(levelname)s: %(message)s")
    try:
        run_alone(options.socket, log_path=options.log, log_fd=options.log_fd)
    except (OSError, ValueError) as error:
        print(f"xenstored: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
