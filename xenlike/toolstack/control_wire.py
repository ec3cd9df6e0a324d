"""The control protocol of a running machine: one JSON object a line, on a Unix socket.

    -> {"id": 1, "method": "shutdown", "params": {"domain": "guest", "reason": "reboot"}}
    <- {"id": 1, "result": {"reason": "reboot", "code": 0, "signal": null}}
    <- {"id": 1, "error": {"kind": "NoSuchDomain", "message": "..."}}
    <- {"id": 2, "event": {"data": "aGVsbG8K"}}          any number of them, before the result

| method | params | result |
|---|---|---|
| `list` | | array of domains |
| `shutdown` | `domain`, `reason`, `timeout_s` | how it ended |
| `destroy` | `domain` | null |
| `block-attach` | `domain`, `disk` {target, format, vdev, access, backend} | null |
| `block-detach` | `domain`, `vdev` | null |
| `console` | `domain`, `follow` | events with `data` (base64), null when the domain has ended |
| `console-input` | `domain`, `data` (base64) | null |
| `publish` | `period_ms`, `lease_ms` | number of the snapshot of statistics that answers it |
| `trace` | `what`, `classes`, `follow` | events with `update` (JSON), see `xenlike.toolstack.tracing.updates` |
| `why` | `device`, empty for all | events with `explanation` (JSON), `xenlike.toolstack.why.Explanation` |
| `down` | | null, then the machine goes and the connection ends |

`domain` is a name or a domid in decimal. Requests on one connection may be many at a time; answers carry the id. The
`kind` of an error is the class's name in `xenlike.errors`. A client that closes its end cancels what it asked for.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from xenlike import errors
from xenlike.toolstack.devices import Disk

MAX_LINE = 1 << 20
"""Bytes; a longer line ends the connection."""


class DomainInfo(msgspec.Struct, frozen=True):
    """One line of `xenlike list`.

    Attributes:
        domid: 0 is the toolstack's own domain.
        name: unique among the living.
        state: `running`, `shutdown`, `crashed`, `dying`, or another word of the machine's.
        memory: in bytes.
        pid: of its process; None when that is gone.
        cpu_s: processor time used.
        backends: device types that it serves.
        devices: names of its devices, as `xvda` or `echo/0`.
    """

    domid: int
    name: str
    state: str
    memory: int = 0
    pid: int | None = None
    cpu_s: float = 0.0
    backends: list[str] = []
    devices: list[str] = []


class ExitInfo(msgspec.Struct, frozen=True):
    """How a domain ended.

    Attributes:
        reason: `poweroff`, `reboot`, `suspend`, `crash`, `watchdog` or `soft_reset`.
        code: the process's exit status, if it exited.
        signal: what killed it, if something did.
    """

    reason: str
    code: int | None = None
    signal: int | None = None


class OneDomain(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters: a domain by name or domid."""

    domain: str


class ShutdownParams(OneDomain):
    """Parameters of `shutdown`; `timeout_s` is how long to wait for the end."""

    reason: str = "poweroff"
    timeout_s: float | None = None


class AttachParams(OneDomain):
    """Parameters of `block-attach`; a relative target is relative to the machine's folder, so send absolute ones."""

    disk: Disk


class DetachParams(OneDomain):
    """Parameters of `block-detach`."""

    vdev: str


class ConsoleParams(OneDomain):
    """Parameters of `console`; without `follow` the answer ends with what is kept."""

    follow: bool = True


class InputParams(OneDomain):
    """Parameters of `console-input`."""

    data: bytes


class PublishParams(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of `publish`: one snapshot now, and one in each period until the lease ends."""

    period_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    lease_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0


class WhyParams(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of `why`: a device by any of its names, or empty for all."""

    device: str = ""


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends."""

    id: int
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Failure(msgspec.Struct):
    """Why a request failed."""

    kind: str
    message: str


class Reply(msgspec.Struct, omit_defaults=True):
    """What the machine answers; `result` is absent when it is null."""

    id: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Failure | None = None
    event: dict[str, str] | None = None


def failure(error: BaseException) -> Failure:
    """Returns an error as it goes over the wire."""
    message = str(error) or type(error).__name__
    return Failure(type(error).__name__, message)


class RemoteFailure(errors.MachineError):
    """The machine answered with an error of a kind that is not one of ours."""


def revive(failure: Failure) -> errors.XenlikeError:
    """Returns the error for what came over the wire, of its own class where one can be made from a message."""
    kind = getattr(errors, failure.kind, None)
    made_from_message = (
        errors.ConfigError,
        errors.MachineError,
        errors.NoSuchDevice,
        errors.NoSuchDomain,
        errors.PeerGone,
        errors.HypervisorGone,
    )
    if isinstance(kind, type) and issubclass(kind, made_from_message):
        return kind(failure.message)
    return RemoteFailure(f"{failure.kind}: {failure.message}")
