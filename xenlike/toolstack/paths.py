"""Where a running machine keeps its sockets, and the segment with its statistics.

    <root>/<machine>/lock               held with flock by the running machine
    <root>/<machine>/control.sock       the control socket, JSON lines
    <root>/<machine>/xenstored/socket   the store's Unix socket, the protocol of Xen's tools
    /dev/shm/xenlike-<uid>-<hash>-<machine>   its statistics; the hash is the root's, for there may be several

The root is `$XENLIKE_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/xenlike`, else `/run/xenlike` for who may write there,
else `/tmp/xenlike-<uid>`. It belongs to its user alone (mode 0700): whoever can connect to a control socket can
do with the machine what its owner can.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from xenlike.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
SHM = Path("/dev/shm")
"""Where Linux keeps named segments."""
_SOCKET_PATH_MAX = 107  # sockaddr_un.sun_path holds 108 bytes with the closing zero


def check_name(name: str, what: str = "machine") -> str:
    """Returns a machine's or a domain's name as it is, if it is one.

    Raises:
        ConfigError: it is empty, longer than 63, or has other characters than letters, digits, `_ . -`.
    """
    if _NAME.fullmatch(name):
        return name
    raise ConfigError(
        f"{name!r} is no name for a {what}: take up to 63 letters, digits, '_', '.', '-', the first a letter or digit"
    )


def runtime_root() -> Path:
    """Returns the folder of all machines of this user, which may not exist yet."""
    if root := os.environ.get("XENLIKE_RUNTIME_DIR"):
        return Path(root)
    if root := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(root) / "xenlike"
    if os.access("/run", os.W_OK):
        return Path("/run/xenlike")
    return Path(f"/tmp/xenlike-{os.getuid()}")


@dataclass(frozen=True)
class MachinePaths:
    """The files of one machine. Making this object touches nothing on disk.

    Attributes:
        name: the machine's.
        folder: holds all the rest.
    """

    name: str
    folder: Path

    @classmethod
    def of(cls, name: str, root: Path | str | None = None) -> MachinePaths:
        """Returns the paths of a machine; `root` defaults to `runtime_root()`.

        Raises:
            ConfigError: the name is none, or the sockets' paths would be longer than a socket's path can be.
        """
        paths = cls(check_name(name), Path(root or runtime_root()).absolute() / name)
        longest = max(len(os.fsencode(path)) for path in (paths.control, paths.xenstored))
        if longest > _SOCKET_PATH_MAX:
            raise ConfigError(
                f"{paths.folder} is too long a path for sockets ({longest} bytes with their names, the limit is "
                f"{_SOCKET_PATH_MAX}): set XENLIKE_RUNTIME_DIR to a shorter folder"
            )
        return paths

    @property
    def lock(self) -> Path:
        """Locked by the running machine."""
        return self.folder / "lock"

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.folder / "control.sock"

    @property
    def xenstored(self) -> Path:
        """The store's socket."""
        return self.folder / "xenstored" / "socket"

    @property
    def log(self) -> Path:
        """What a detached machine prints."""
        return self.folder / "machine.log"

    @property
    def segment(self) -> str:
        """Name of the segment with its statistics, as POSIX has it: `/xenlike-1000-0f3a5b7c-lab`."""
        return f"/{_segment_prefix(self.folder.parent)}{self.name}"

    def create_root(self) -> None:
        """Makes the folder of all machines, mode 0700.

        Raises:
            ConfigError: it exists and is not a folder of ours alone.
            OSError: it could not be made.
        """
        root = self.folder.parent
        root.parent.mkdir(parents=True, exist_ok=True)
        _private_folder(root)

    def create(self) -> None:
        """Makes the folders, mode 0700.

        Raises:
            ConfigError: the root exists and is not a folder of ours alone.
            OSError: a folder could not be made.
        """
        self.create_root()
        _private_folder(self.folder)
        _private_folder(self.xenstored.parent)

    def remove(self) -> None:
        """Removes the machine's names; what is not there or not ours to remove stays silently."""
        # The segment first: what has no folder is hardly looked for.
        for path in (SHM / self.segment[1:], self.control, self.xenstored, self.log, self.lock):
            try:
                path.unlink()
            except OSError:
                pass
        for folder in (self.xenstored.parent, self.folder):
            try:
                folder.rmdir()
            except OSError:
                pass


def machine_names(root: Path | str | None = None) -> list[str]:
    """Returns the names of machines that have a control socket, alive or left behind."""
    folder = Path(root or runtime_root())
    try:
        return sorted(entry.name for entry in folder.iterdir() if (entry / "control.sock").is_socket())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def segment_machines(root: Path | str) -> list[str]:
    """Returns the names of this user's machines below a root that have a segment, alive or left behind."""
    prefix = _segment_prefix(Path(root))
    try:
        names = [name.removeprefix(prefix) for name in os.listdir(SHM) if name.startswith(prefix)]
    except OSError:
        return []
    return sorted(name for name in names if _NAME.fullmatch(name))


def _segment_prefix(root: Path) -> str:
    """By the root's real path, since whoever looks may call it by another name than whoever made it."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()
    return f"xenlike-{owner_of(root)}-{digest[:8]}-"


def owner_of(root: Path | str) -> int:
    """Returns the uid whose machines these are: root may look at others'."""
    try:
        return os.stat(root).st_uid
    except OSError:
        return os.geteuid()


def _private_folder(path: Path) -> None:
    """Makes `path` unless it is there, and sees that nobody else can enter it.

    In `/tmp` anybody may have made it first, hence the look without following links.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigError(f"{path} is not a folder of ours: remove it, or set XENLIKE_RUNTIME_DIR to another one")
    if status.st_mode & 0o077:
        path.chmod(0o700)
