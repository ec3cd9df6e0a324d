"""`xenlike block-attach` and `block-detach`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xenlike.cli.options import DomainName, with_machine
from xenlike.errors import ConfigError


def attach(
    ctx: typer.Context,
    domain: DomainName,
    disk: Annotated[
        str,
        typer.Argument(
            metavar="DISK",
            help="xl's words: target,format,vdev,access or key=value, such as 'data.img,raw,xvdb,rw,backend=storage'.",
        ),
    ],
) -> None:
    """Plug a disk into a running guest; returns when the guest is connected to it."""
    from xenlike.toolstack.devices import check_image, parse_disk

    described = parse_disk(disk).at(Path.cwd())
    check_image(described)
    with_machine(ctx, lambda control: control.block_attach(domain, described))


def detach(
    ctx: typer.Context,
    domain: DomainName,
    vdev: Annotated[str, typer.Argument(metavar="VDEV", help="The guest's name for the disk, such as xvdb.")],
) -> None:
    """Unplug a disk from a running guest; returns when it is gone."""
    from xenlike.io.vdev import parse_vdev

    try:
        parse_vdev(vdev)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with_machine(ctx, lambda control: control.block_detach(domain, vdev))
