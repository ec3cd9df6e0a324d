"""`xenlike stats`: what domains and their rings have counted so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from xenlike.cli.options import Json, chosen_machine, print_json, wide_stdout

if TYPE_CHECKING:
    from xenlike.toolstack.statistics import DomainStatistics


def stats(
    ctx: typer.Context,
    domain: Annotated[
        str | None, typer.Argument(metavar="[DOMAIN]", help="Name or domid; without it all domains.")
    ] = None,
    json: Json = False,
    prometheus: Annotated[
        str | None,
        typer.Option(
            metavar="PORT|ADDRESS:PORT",
            help="Serve them to Prometheus until Ctrl-C, on 127.0.0.1 where no address is given; 0 takes a free port.",
        ),
    ] = None,
) -> None:
    """Show the counters of domains and their rings.

    They are what has been counted since each ring was made; `xenlike top` shows what happens a second. Works while the
    machine's own process is busy, with what was published last.
    """
    import trio

    from xenlike.errors import ConfigError, NoSuchDomain
    from xenlike.toolstack.statistics import fresh

    name = chosen_machine(ctx)
    if prometheus is not None:
        if domain is not None or json:
            raise ConfigError("--prometheus serves all domains of the machine, in Prometheus' own form")
        from xenlike.cli.prometheus import serve

        serve(name, prometheus)
        return
    snapshot, is_fresh = trio.run(fresh, name)
    found = snapshot.domains if domain is None else chosen(snapshot.domains, domain)
    if not found:
        names = ", ".join(each.name for each in snapshot.domains)
        raise NoSuchDomain(f"machine {name!r} has no domain {domain!r}; there are: {names}")
    if json:
        print_json(
            {
                "machine": name,
                "sequence": snapshot.sequence,
                "age_s": round(snapshot.age_s, 3),
                "fresh": is_fresh,
                "hypervisor": {"pid": snapshot.hypervisor_pid, "cpu_s": snapshot.hypervisor_cpu_s},
                "domains": found,
            }
        )
        return
    from xenlike.cli.top_display import counters

    wide_stdout().print(counters(found))
    if not is_fresh:
        typer.echo(f"The machine's own process is busy: this is {snapshot.age_s:.1f} s old.", err=True)


def chosen(domains: Sequence[DomainStatistics], who: str) -> list[DomainStatistics]:
    """Returns the domains of a name or domid; several may have had a name, one after the other."""
    return [domain for domain in domains if who in (domain.name, str(domain.domid))]
