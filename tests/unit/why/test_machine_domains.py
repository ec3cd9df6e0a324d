"""How a machine's domains stand: what the hypervisor's record, the toolstack's plans and the kernel say together."""

from __future__ import annotations

import os
import signal
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from xenlike.abi import hypercall as hc
from xenlike.abi.sched import SHUTDOWN_crash, SHUTDOWN_poweroff
from xenlike.toolstack.console_log import ConsoleLog
from xenlike.toolstack.spec import Exec, make_spec
from xenlike.toolstack.why.domains import Domains, is_stopped
from xenlike.toolstack.why.evidence import DomainFacts

RUNNING, DEAD = hc.XENLIKE_DOMAIN_RUNNING, hc.XENLIKE_DOMAIN_DEAD


def info(domid: int, state: int, **members: Any) -> hc.GetDomainInfo:
    return hc.GetDomainInfo(domid=domid, state=state, name=b"storage", flags=hc.XENLIKE_CREATE_FORK, **members)


def guest(domid: int, *, phase: str = "up", destroyed: bool = False, running: bool = True, **spec: Any) -> Any:
    made = make_spec("storage", spec.pop("entry", None), **spec)
    return SimpleNamespace(name="storage", domid=domid, phase=phase, destroyed=destroyed, is_running=running, spec=made)


def facts(domid: int, infos: list[hc.GetDomainInfo], guests: list[Any], said: bytes = b"") -> DomainFacts:
    console = ConsoleLog()
    console.feed("storage", said)
    hypercalls: Any = SimpleNamespace(domain_infos=lambda: infos)
    return Domains(hypercalls, {one.name: one for one in guests}, console).facts(domid, "storage")


def test_a_domain_that_runs() -> None:
    told = facts(2, [info(2, RUNNING, pid=os.getpid())], [guest(2, backends=["echo"])], b"nothing to say")
    assert told == DomainFacts(2, "storage", "running", ["echo"])
    told = facts(2, [info(2, RUNNING)], [guest(2, entry=Exec(["sh"]))])
    assert (told.serves, told.program) == (None, True)


def test_a_domain_that_was_created_and_not_started() -> None:
    assert facts(2, [info(2, hc.XENLIKE_DOMAIN_BUILDING)], [guest(2)]).state == "paused"
    assert facts(2, [info(2, hc.XENLIKE_DOMAIN_BUILDING, pid=os.getpid())], [guest(2)]).state == "running"


CRASHED = {"was_shut_down": 1, "shutdown_reason": SHUTDOWN_crash}
POWEROFF = {"was_shut_down": 1, "shutdown_reason": SHUTDOWN_poweroff}


@pytest.mark.parametrize(
    ("record", "plan", "state"),
    [
        (CRASHED, {}, "crashed"),
        ({"exit_code": -9}, {}, "crashed"),
        (POWEROFF, {}, "dead"),
        (CRASHED, {"on_crash": "restart"}, "restarting"),
        (POWEROFF, {"on_crash": "restart"}, "dead"),
        (POWEROFF, {"on_poweroff": "restart"}, "restarting"),
        (CRASHED, {"on_crash": "restart", "destroyed": True}, "crashed"),
        (CRASHED, {"on_crash": "restart", "running": False}, "crashed"),
    ],
)
def test_a_domain_that_ended(record: dict[str, int], plan: dict[str, Any], state: str) -> None:
    told = facts(2, [info(2, DEAD, **record)], [guest(2, **plan)], b"so long\nout of \x1b[2J paper\n\n")
    assert told.state == state
    assert told.said == "out of \\x1b[2J paper"


@pytest.mark.parametrize(
    ("one", "state"),
    [
        (guest(2, phase="starting", on_crash="restart"), "restarting"),
        (guest(5, phase="relinking", on_crash="restart"), "restarting"),
        (guest(2, phase="dead"), "gone"),
        (None, "gone"),
    ],
)
def test_a_domain_whose_record_is_gone(one: Any, state: str) -> None:
    told = facts(2, [], [one] if one else [])
    assert told.state == state
    assert told.name == "storage"


def test_domain_0_is_there_whatever_it_serves() -> None:
    told = facts(0, [info(0, RUNNING)], [])
    assert (told.name, told.state, told.serves) == ("Domain-0", "running", None)


def test_a_process_that_is_stopped_is_seen() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert is_stopped(process.pid)
        assert facts(2, [info(2, RUNNING, pid=process.pid)], [guest(2)]).state == "stopped"
        process.kill()
    assert not is_stopped(process.pid)
