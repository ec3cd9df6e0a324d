"""Every error xenlike raises, in one hierarchy.

Each error is also of the built-in kind that a Python person would catch: a failed hypercall is an
`OSError` with its errno, a vanished peer a `ConnectionError`, a bad configuration a `ValueError`.
"""

from __future__ import annotations

import errno as _errno
import os


class XenlikeError(Exception):
    """Root of the hierarchy."""


class HypercallError(XenlikeError, OSError):
    """The hypervisor refused a hypercall.

    Args:
        errno: positive errno, Xen's numbers (which are Linux's).
        op: the hypercall's name, such as `EVTCHNOP_bind_interdomain`.
        hint: what the caller can do about it.
    """

    def __init__(self, errno: int, op: str, hint: str = "") -> None:
        text = f"{op}: {os.strerror(errno)}" + (f" ({hint})" if hint else "")
        super().__init__(errno, text)
        self.op = op

    def __str__(self) -> str:
        return f"[{_errno.errorcode.get(self.errno or 0, self.errno)}] {self.strerror}"


class HypervisorGone(XenlikeError, ConnectionError):
    """The hypervisor process died; every domain of its machine died with it."""


class GrantError(XenlikeError, OSError):
    """A grant operation failed on one reference; `status` is Xen's `GNTST_*`."""

    def __init__(self, errno: int, message: str, status: int = 0) -> None:
        super().__init__(errno, message)
        self.status = status


class GrantDenied(GrantError, PermissionError):
    """The granter did not grant this page to this domain in this mode."""


class GrantBusy(GrantError):
    """The peer still maps the page, so the grant cannot end yet."""


class NoSuchDomain(XenlikeError, LookupError):
    """No live domain has that domid or name."""


class NoSuchDevice(XenlikeError, LookupError):
    """The domain has no device of that name."""


class PortClosed(XenlikeError, OSError):
    """The event channel was closed at this end."""


class PeerGone(XenlikeError, ConnectionError):
    """The domain at the other end died, or closed its end of the connection."""


class ProtocolError(XenlikeError, ValueError):
    """The peer broke the protocol. Sticky: what raised it stays broken.

    Args:
        message: what was wrong, with the value.
        domid: who broke it; None where the ring does not know its peer.
    """

    def __init__(self, message: str, domid: int | None = None) -> None:
        super().__init__(message if domid is None else f"d{domid}: {message}")
        self.domid = domid


class RequestFailed(XenlikeError, OSError):
    """The backend answered a request with an error status.

    Args:
        status: the protocol's own status, such as `BLKIF_RSP_ERROR`.
    """

    def __init__(self, status: int, message: str, errno: int = _errno.EIO) -> None:
        super().__init__(errno, message)
        self.status = status


class XenstoreError(XenlikeError, OSError):
    """xenstored answered with an error name.

    Build one with `XenstoreError.named("ENOENT", path)`, which picks the precise kind.
    """

    def __init__(self, name: str, what: str = "") -> None:
        number = getattr(_errno, name, _errno.EIO)
        super().__init__(number, f"xenstore: {name}" + (f": {what}" if what else ""))
        self.name = name
        self.what = what

    @staticmethod
    def named(name: str, what: str = "") -> XenstoreError:
        """Returns the error for a wire name, of its precise kind."""
        kind = {"ENOENT": NoEntry, "EACCES": StoreDenied, "EAGAIN": Conflict, "ENOSPC": QuotaExceeded}
        return kind.get(name, XenstoreError)(name, what)


class NoEntry(XenstoreError, KeyError):
    """The node does not exist."""

    __str__ = OSError.__str__


class StoreDenied(XenstoreError, PermissionError):
    """The node's permissions do not allow it."""


class Conflict(XenstoreError):
    """Another change came between; the transaction is to be tried again."""


class QuotaExceeded(XenstoreError):
    """The domain is at its limit of nodes, watches, transactions or size."""


class ConfigError(XenlikeError, ValueError):
    """A machine, domain or device was described wrongly."""


class MachineError(XenlikeError, RuntimeError):
    """A machine could not start, or is not in a state for what was asked."""


class NoSuchMachine(MachineError, LookupError):
    """No machine of that name is running."""
