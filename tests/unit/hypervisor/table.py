"""A hypervisor's tables in the test's own process: no loop, no zygote, no hypercalls."""

from __future__ import annotations

from xenlike.abi import hypercall as hc
from xenlike.abi.xen import DOMID_INVALID
from xenlike.hypervisor.domain import Domain
from xenlike.hypervisor.hypervisor import Hypervisor


class Table:
    """Makes domains, and closes what is left of them at the end."""

    def __init__(self) -> None:
        self.watched: list[Domain] = []
        self.xen = Hypervisor(self.watched.append)

    def create(
        self, *, flags: int = 0, domid: int = 0, store: int = DOMID_INVALID, console: int = DOMID_INVALID
    ) -> Domain:
        arguments = hc.CreateDomain(
            domid=domid,
            flags=flags | hc.XENLIKE_CREATE_ADOPT,
            max_windows=1000,
            nr_pages=2,
            pool_pages=4000,
            store_domid=store,
            console_domid=console,
            name=b"test",
        )
        domain, theirs = self.xen.create(arguments, b"")
        assert theirs is not None
        theirs.close()
        return domain

    def close(self) -> None:
        for domain in list(self.xen.domains.values()):
            self.xen.destroy(domain)
        assert self.xen.domains == {}
