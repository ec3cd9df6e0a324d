"""Machine files: a good one is read in full, and a bad one is refused with file, line, key and reason."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from xenlike.errors import ConfigError
from xenlike.toolstack.config import MachineConfig, load_machine, parse_machine
from xenlike.toolstack.devices import Device, Disk

DRIVERS = ["echo", "vbd"]

GOOD = """\
[machine]
name = "lab"

[[domain]]
name = "guest"
entry = "guest.py:main"
args = ["--verbose"]
memory = "128M"
on_crash = "restart"

[[domain.disk]]
target = "disk.img"
vdev = "xvda"
backend = "storage"

[[domain.disk]]
target = "16M"
format = "memory"
vdev = "xvdb"

[[domain.device]]
type = "echo"
id = 3
backend = "storage"
nodes = { max-size = 4096 }

[[domain]]
name = "storage"
backends = ["vbd", "echo"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guest.py").write_text("def main(domain): ...\n")
    (tmp_path / "disk.img").write_bytes(bytes(8192))
    (tmp_path / "other.img").write_bytes(bytes(8192))
    return tmp_path


def parse(folder: Path, text: str) -> MachineConfig:
    return parse_machine(text, folder / "lab.toml", DRIVERS)


def refusal(folder: Path, text: str) -> str:
    """The message, less the folder."""
    with pytest.raises(ConfigError) as caught:
        parse(folder, text)
    return str(caught.value).replace(f"{folder}{os.sep}", "")


def test_a_good_file_is_read_in_full(folder: Path) -> None:
    machine = parse(folder, GOOD)
    assert machine.name == "lab"
    storage, guest = machine.domains
    assert storage.name == "storage"
    assert storage.backends == ("vbd", "echo")
    assert storage.entry is None
    assert guest.entry == f"{folder}/guest.py:main"
    assert guest.args == ("--verbose",)
    assert guest.memory == 128 << 20
    assert (guest.on_crash, guest.on_reboot, guest.on_poweroff) == ("restart", "restart", "destroy")
    assert guest.devices == (
        Disk(f"{folder}/disk.img", "raw", "xvda", "rw", "storage"),
        Disk("16M", "memory", "xvdb", "rw", "0"),
        Device("echo", 3, "storage", {"max-size": 4096}),
    )


def test_the_file_is_found_by_path_and_names_the_machine(folder: Path) -> None:
    (folder / "my lab.toml").write_text('[[domain]]\nname = "a"\nentry = "guest.py:main"\n')
    assert load_machine(folder / "my lab.toml").name == "my-lab"


def test_backends_start_before_their_guests_and_the_rest_in_order(folder: Path) -> None:
    text = "".join(
        f'[[domain]]\nname = "{name}"\nbackends = ["echo"]\n'
        + (f'[[domain.device]]\ntype = "echo"\nbackend = "{backend}"\n' if backend else "")
        for name, backend in [("a", "d"), ("b", ""), ("c", "a"), ("d", "e"), ("e", "0")]
    )
    assert [domain.name for domain in parse(folder, text).domains] == ["e", "d", "a", "b", "c"]


def test_an_exec_is_found_beside_the_file_or_on_the_path(folder: Path) -> None:
    (folder / "guest").write_text("#!/bin/sh\n")
    (folder / "guest").chmod(0o755)
    machine = parse(
        folder, '[[domain]]\nname = "a"\nexec = ["./guest", "--fast"]\n[[domain]]\nname = "b"\nexec = ["sh"]\n'
    )
    assert machine.domains[0].exec == (f"{folder}/guest", "--fast")
    assert machine.domains[1].exec[0].endswith("/sh")


A = '[[domain]]\nname = "a"\n'
RUN = A + 'entry = "guest.py:main"\n'
BACK = '[[domain]]\nname = "back"\nbackends = ["echo"]\n'
DISK = '[[domain.disk]]\ntarget = "disk.img"\nvdev = "xvda"\n'

REFUSED = {
    # TOML itself
    "not toml": ("[[domain]\n", r":1:9: Expected"),
    "key twice": (A + 'name = "b"\n', r":3:\d+: Cannot overwrite a value"),
    # shape
    "empty": ("", r": the key 'domain' is missing"),
    "no domain": ("domain = []\n", r": there is no \[\[domain\]\]"),
    "table for array": ('[domain]\nname = "a"\n', r":1: domain: .*\[\[domain\]\]"),
    "unknown table": (RUN + "[machin]\n", r":4: machin: unknown key; did you mean 'machine'\?"),
    "unknown machine key": ("[machine]\ncolour = 1\n" + RUN, r":2: machine\.colour: unknown key; known are name"),
    "unknown key": (RUN + "memroy = 1\n", r":4: domain\[0\]\.memroy: unknown key; did you mean 'memory'\?"),
    "unknown disk key": (RUN + DISK + "size = 1\n", r":7: domain\[0\]\.disk\[0\]\.size: unknown key"),
    "wrong type": (RUN + "args = 3\n", r":4: domain\[0\]\.args: Expected `array`, got `int`"),
    "wrong item": (RUN + 'args = [\n "a",\n 3]\n', r":4: domain\[0\]\.args: Expected `str`, got `int`"),
    "wrong action": (RUN + 'on_crash = "explode"\n', r":4: domain\[0\]\.on_crash: Invalid enum value 'explode'"),
    "missing name": ("\n[[domain]]\nentry = 'guest.py:main'\n", r":2: domain\[0\]: the key 'name' is missing"),
    # domains
    "machine name": ('[machine]\nname = "../x"\n' + RUN, r":2: machine\.name: '\.\./x' is no name"),
    "domain name": ('[[domain]]\nname = "a b"\n', r":2: domain\[0\]\.name: 'a b' is no name"),
    "name like a domid": ('[[domain]]\nname = "7"\n', r":2: domain\[0\]\.name: '7' could be taken for a domid"),
    "domain twice": (RUN + RUN, r":5: domain\[1\]\.name: there are two domains 'a'"),
    "nothing to do": (A, r":1: domain\[0\]: domain 'a' has nothing to do"),
    "entry and exec": (RUN + 'exec = ["sh"]\n', r":4: domain\[0\]\.exec: exec goes without entry"),
    "args for exec": (A + 'exec = ["sh"]\nargs = ["x"]\n', r":4: domain\[0\]\.args: args are for an entry"),
    "entry form": (A + 'entry = "guest.py"\n', r":3: domain\[0\]\.entry: 'guest\.py' is not"),
    "entry file": (A + 'entry = "gest.py:main"\n', r":3: domain\[0\]\.entry: there is no file gest\.py"),
    "entry module": (A + 'entry = "no_such_module_here:main"\n', r":3: domain\[0\]\.entry: there is no module"),
    "exec": (A + 'exec = ["./nothing"]\n', r":3: domain\[0\]\.exec: there is no program '\./nothing'"),
    "memory": (RUN + 'memory = "64Q"\n', r":4: domain\[0\]\.memory: memory '64Q' is not a size"),
    "memory pages": (RUN + "memory = 5000\n", r":4: domain\[0\]\.memory: .* whole number of pages"),
    "no memory": (RUN + "memory = 0\n", r":4: domain\[0\]\.memory: .* more than nothing"),
    "backend driver": (A + 'backends = ["vif"]\n', r":3: .*backends: no driver .* 'vif'; known are echo, vbd"),
    "backend twice": (A + 'backends = ["vbd", "vbd"]\n', r":3: domain\[0\]\.backends: 'vbd' is there twice"),
    # devices
    "no image": (RUN + DISK.replace("disk", "dusk", 2).replace("[[domain.dusk", "[[domain.disk"),
                 r":5: domain\[0\]\.disk\[0\]\.target: the image dusk\.img of disk xvda does not exist"),
    "image is a folder": (RUN + '[[domain.disk]]\ntarget = "/usr"\naccess = "ro"\nvdev = "xvda"\n',
                          r":5: .*\.target: the image /usr of disk xvda is neither a file nor a block device"),
    "no vdev": (RUN + '[[domain.disk]]\ntarget = "disk.img"\n', r":4: .*disk\[0\]: the key 'vdev' is missing"),
    "vdev": (RUN + DISK.replace("xvda", "yda"), r":6: domain\[0\]\.disk\[0\]\.vdev: vdev 'yda' is not a disk"),
    "access": (RUN + DISK + 'access = "rx"\n', r":7: .*disk\[0\]\.access: disk access 'rx' is not known"),
    "format": (RUN + DISK + 'format = "vhd"\n', r":7: .*disk\[0\]\.format: disk format 'vhd' is not known"),
    "disk twice": (RUN + DISK + 'access = "ro"\n' + DISK.replace('"xvda"', '"0xca00"') + 'access = "ro"\n',
                   r":8: domain\[0\]\.disk\[1\]: this domain has 0xca00 twice, once as xvda"),
    "device twice": (RUN + '[[domain.device]]\ntype = "echo"\n' * 2, r":6: .*device\[1\]: .* echo/0 twice"),
    "shared image": (RUN + DISK + DISK.replace("xvda", "xvdb") + 'access = "ro"\n',
                     r":8: domain\[0\]\.disk\[1\]\.target: this image is xvda of 'a' too"),
    "device driver": (RUN + '[[domain.device]]\ntype = "ehco"\n', r":5: .*\.type: no driver is called 'ehco'"),
    "disk as device": (RUN + '[[domain.device]]\ntype = "vbd"\n', r":5: .*\.type: .* \[\[domain\.disk\]\]"),
    "device id": (RUN + '[[domain.device]]\ntype = "echo"\nid = -1\n', r":6: .*\.id: device id -1 is not in"),
    "device node": (RUN + '[[domain.device]]\ntype = "echo"\nnodes = {state = 4}\n', r":6: .*\.nodes: .*xenbus"),
    "unknown backend": (RUN + DISK + 'backend = "stroage"\n' + BACK,
                        r":7: .*\.backend: no domain is called 'stroage'; there are a, back, and 0"),
    "wrong backend": (RUN + DISK + 'backend = "back"\n' + BACK, r":7: .*\.backend: 'back' serves no vbd"),
    "own backend": (BACK + '[[domain.device]]\ntype = "echo"\nbackend = "back"\n',
                    r":6: .*\.backend: 'back' cannot be the backend of its own device"),
    "cycle": (BACK + '[[domain.device]]\ntype = "echo"\nbackend = "b2"\n'
              + BACK.replace('"back"', '"b2"') + '[[domain.device]]\ntype = "echo"\nbackend = "back"\n',
              r":1: domain\[0\]: these domains wait for each other's backends: back -> b2 -> back"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_with_line_key_and_reason(folder: Path, case: str) -> None:
    text, expected = REFUSED[case]
    message = refusal(folder, text)
    assert re.match(rf"lab\.toml{expected}", message), message


def test_a_missing_or_unreadable_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load_machine(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_machine(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_machine(tmp_path / "latin.toml")


def test_two_readers_may_share_an_image(folder: Path) -> None:
    text = RUN + DISK + 'access = "ro"\n' + DISK.replace("xvda", "xvdb") + 'access = "r"\n'
    assert len(parse(folder, text).domains[0].devices) == 2


def test_a_fifo_is_refused_without_waiting_for_its_writer(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    message = refusal(folder, RUN + DISK.replace("disk.img", "fifo") + 'access = "ro"\n')
    assert "neither a file nor a block device" in message
