"""Xen's shared pages at start of day: `shared_info`, `vcpu_info`, `start_info` (`xen.h`).

xenlike's domains get `xenlike.abi.start_info.StartInfo` instead; these are for what reads or writes
Xen's own: a checkpoint stream, a guest of real Xen.
"""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, Union, field
from xenlike.abi.types import Array, char32, evtchn_port_t, s8, u8, u32, u64, xen_pfn_t

XEN_LEGACY_MAX_VCPUS: Final = 32
MAX_GUEST_CMDLINE: Final = 1024

SIF_PRIVILEGED: Final = 1 << 0
SIF_INITDOMAIN: Final = 1 << 1
SIF_MULTIBOOT_MOD: Final = 1 << 2
SIF_MOD_START_PFN: Final = 1 << 3
SIF_VIRT_P2M_4TOOLS: Final = 1 << 4


class VcpuTimeInfo(Struct, c="vcpu_time_info"):
    """Time of one virtual CPU."""

    version: u32 = field("odd while it is being changed")
    pad0: u32 = field()
    tsc_timestamp: u64 = field("TSC at the last change")
    system_time: u64 = field("time since boot", unit="ns")
    tsc_to_system_mul: u32 = field()
    tsc_shift: s8 = field()
    flags: u8 = field()
    pad1: Annotated[tuple[int, ...], Array(u8, 2)] = ()


class ArchVcpuInfo(Struct, c="arch_vcpu_info"):
    """What x86_64 adds to `vcpu_info`."""

    cr2: u64 = field()
    pad: u64 = field()


class VcpuInfo(Struct, c="vcpu_info"):
    """Events and time of one virtual CPU."""

    evtchn_upcall_pending: u8 = field("an event is to be looked for")
    evtchn_upcall_mask: u8 = field("no upcalls now")
    evtchn_pending_sel: u64 = field("words of evtchn_pending to look at")
    arch: ArchVcpuInfo = field()
    time: VcpuTimeInfo = field()


class ArchSharedInfo(Struct, c="arch_shared_info"):
    """What x86 adds to `shared_info`."""

    max_pfn: u64 = field()
    pfn_to_mfn_frame_list_list: xen_pfn_t = field()
    nmi_reason: u64 = field()
    p2m_cr3: u64 = field()
    p2m_vaddr: u64 = field()
    p2m_generation: u64 = field()


class SharedInfo(Struct, c="shared_info"):
    """A domain's page of pending and masked events and of wall-clock time."""

    vcpu_info: Annotated[tuple[VcpuInfo, ...], Array(VcpuInfo, XEN_LEGACY_MAX_VCPUS)] = ()
    evtchn_pending: Annotated[tuple[int, ...], Array(u64, 64)] = ()
    evtchn_mask: Annotated[tuple[int, ...], Array(u64, 64)] = ()
    wc_version: u32 = field("odd while it is being changed")
    wc_sec: u32 = field()
    wc_nsec: u32 = field()
    wc_sec_hi: u32 = field()
    arch: ArchSharedInfo = field()


class StartInfoConsoleDomU(Struct, c="start_info_console_domu", anonymous=True):
    """An ordinary domain's console."""

    mfn: xen_pfn_t = field("page of the console ring")
    evtchn: evtchn_port_t = field("its event channel")


class StartInfoConsoleDom0(Struct, c="start_info_console_dom0", anonymous=True):
    """Domain 0's console."""

    info_off: u32 = field()
    info_size: u32 = field()


class StartInfoConsole(Union, c="start_info_console", anonymous=True):
    """By whose it is."""

    domU: StartInfoConsoleDomU = field()  # noqa: N815
    dom0: StartInfoConsoleDom0 = field()


class XenStartInfo(Struct, c="start_info"):
    """What real Xen tells a paravirtual domain at birth."""

    magic: char32 = field('"xen-<version>-<platform>"')
    nr_pages: u64 = field("the domain's memory", unit="pages")
    shared_info: u64 = field("machine address")
    flags: u32 = field("SIF_*")
    store_mfn: xen_pfn_t = field("page of the store ring")
    store_evtchn: evtchn_port_t = field("its event channel")
    console: StartInfoConsole = field()
    pt_base: u64 = field("virtual address of the page directory")
    nr_pt_frames: u64 = field()
    mfn_list: u64 = field("virtual address")
    mod_start: u64 = field("virtual address")
    mod_len: u64 = field("bytes")
    cmd_line: Annotated[tuple[int, ...], Array(s8, MAX_GUEST_CMDLINE)] = ()
    first_p2m_pfn: u64 = field()
    nr_p2m_frames: u64 = field()
