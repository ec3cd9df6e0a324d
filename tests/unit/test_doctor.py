"""The doctor answers whatever the host is like, and tells what is required from what is nice to have."""

from __future__ import annotations

import errno
import os

import pytest

from xenlike.toolstack import doctor


def test_every_check_answers_here_and_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    findings = doctor.examine()
    assert os.listdir("/proc/self/fd") == before
    assert {finding.state for finding in findings} <= {"ok", "limited", "missing"}
    assert all(finding.name and finding.value and finding.purpose for finding in findings)
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)


def test_these_tests_run_so_this_host_is_ready() -> None:
    assert doctor.is_ready(doctor.examine())


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_tool", lambda name: None)
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["mke2fs"].state == "missing"
    assert "e2fsprogs" in findings["mke2fs"].value
    assert doctor.is_ready(findings.values())


def test_a_kernel_that_refuses_everything_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(doctor, "_syscall", lambda *_: -errno.EPERM)
    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["Landlock"].state == "missing"
    assert findings["io_uring"].state == "limited"
    assert findings["memfd seals"].state == "missing"
    assert "EPERM" in findings["memfd seals"].value
    assert not doctor.is_ready(findings.values())


def test_tools_are_found_outside_of_a_users_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(doctor, "_SYSTEM_FOLDERS", ("/bin",))
    assert doctor.find_tool("sh") == "/bin/sh"
    assert doctor.find_tool("no-such-tool") is None
