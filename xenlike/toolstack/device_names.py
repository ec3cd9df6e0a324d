"""Devices as people name them: `guest/xvda`, `guest/vbd/51712`, `device/echo/0`, `d2/echo/0`, `xvda`.

    [DOMAIN/]VDEV                     a disk by its name in the guest
    [DOMAIN/]TYPE/ID                  any device, by the guest's directory
    [DOMAIN/]device/TYPE/ID           the frontend's nodename
    [DOMAIN/]backend/TYPE/DOMID/ID    the backend's nodename
    /local/domain/...                 either's path in the store

DOMAIN is a name, a domid, or `d` and a domid. It can be left out where only one device is meant then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xenlike.errors import ConfigError, NoEntry, NoSuchDevice
from xenlike.io.vdev import parse_vdev, vdev_name
from xenlike.toolstack.nodes import Attachment, home

if TYPE_CHECKING:
    from xenlike.domain.store import Store

_HOME = re.compile(r"/local/domain/(0|[1-9][0-9]{0,4})/(.+)", re.ASCII)
_DOMID = re.compile(r"d?(0|[1-9][0-9]{0,4})", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_DISK = "vbd"
_MOST_LISTED = 8


def match_domain(who: str, names: Mapping[int, str]) -> int | None:
    """Returns the domid of a domain as people name it; None for no domain that there is.

    Args:
        who: name, domid, or `d` and domid; a name counts before a number.
        names: the domains there are, by domid.
    """
    for domid, name in names.items():
        if name == who:
            return domid
    number = _DOMID.fullmatch(who)
    return int(number[1]) if number is not None and int(number[1]) in names else None


def match_device(who: str, devices: Sequence[Attachment], names: Mapping[int, str]) -> Attachment:
    """Returns the device that is meant.

    Args:
        who: as the module's text has it.
        devices: all there are.
        names: the domains there are, by domid.

    Raises:
        NoSuchDevice: it is none of them.
        ConfigError: it may be several of them.
    """
    if (path := _HOME.fullmatch(who)) is not None:
        domain, rest = f"d{path[1]}", path[2]
    else:
        domain, _, rest = who.partition("/")
    domid = match_domain(domain, names)
    found = [device for device in devices if domid is not None and _is_called(device, rest, domid)]
    # What looks like a domain may be a type.
    found = found or [device for device in devices if _is_called(device, who, None)]
    # A backend's domain does as well, where that leaves one device only.
    found = found or [device for device in devices if device.back == domid and _is_called(device, rest, None)]
    if not found:
        there = [device_name(device, names) for device in devices]
        more = f" and {len(there) - _MOST_LISTED} more" if len(there) > _MOST_LISTED else ""
        raise NoSuchDevice(f"there is no device {who!r}; there are: {', '.join(there[:_MOST_LISTED]) or 'none'}{more}")
    if len(found) > 1:
        which = ", ".join(device_name(device, names) for device in found[:_MOST_LISTED])
        raise ConfigError(f"{who!r} may be any of {which}: say which")
    return found[0]


def device_name(device: Attachment, names: Mapping[int, str]) -> str:
    """Returns how a device is best called: `guest/xvda`."""
    guest = names.get(device.front, f"d{device.front}")
    return f"{guest}/{vdev_name(device.id)}" if device.type == _DISK else f"{guest}/{device.type}/{device.id}"


def _is_called(device: Attachment, name: str, domid: int | None) -> bool:
    """Whether a device goes by this name in a domain; None for any domain."""
    if name == f"backend/{device.type}/{device.front}/{device.id}":
        return domid in (None, device.back)
    if domid not in (None, device.front):
        return False
    type, slash, id = name.removeprefix("device/").rpartition("/")
    if not slash:
        type = _DISK
    elif type != device.type:
        return False
    if type == device.type == _DISK:
        try:
            return parse_vdev(id) == device.id
        except ValueError:
            return False
    return type == device.type and id == str(device.id)


async def list_devices(store: Store, domids: Sequence[int]) -> list[Attachment]:
    """Returns the devices that the store has of some guests, whole ones only."""
    found = []
    for front in domids:
        for type in await _children(store, f"{home(front)}/device"):
            for id in await _children(store, f"{home(front)}/device/{type}"):
                if not _NUMBER.fullmatch(id):
                    continue
                (back,) = await store.read_many([f"{home(front)}/device/{type}/{id}/backend-id"])
                if back is not None and _NUMBER.fullmatch(back):
                    found.append(Attachment(type, int(id), front, int(back)))
    return found


async def _children(store: Store, path: str) -> list[str]:
    try:
        return await store.ls(path)
    except NoEntry:
        return []
