"""What `xenlike dev` shows of what it is told: on a screen, and as lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from xenlike.cli.dev_display import CONSOLE_LINES, OTHER_LINES, STEPS, Display, Lines, Screen, described
from xenlike.toolstack.follower import Kind, NodeChange


def change(name: str, value: str | None, kind: Kind = "backend") -> NodeChange:
    return NodeChange(2, kind, 0, name, value)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def play(display: Display) -> None:
    display.begin(2, "dice: numbers")
    display.changed(change("max-size", "4096"))
    display.changed(change("state", "2"))
    display.changed(change("state", "3", "frontend"))
    display.said("guest", b"hello\nwor")
    display.said("guest", b"ld\n")
    display.counted(1, 0)
    display.error("RequestFailed: [bold]no[/bold]")
    display.note("both halves are down")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (change("state", "4"), "Connected"),
        (change("state", "9"), "'9'"),
        (change("state", "what"), "'what'"),
        (change("state", None), "is gone"),
        (change("max-size", "4096"), "max-size = 4096"),
        (change("max-size", None), "max-size is removed"),
        (change("", "22 no", "error"), "error: 22 no"),
    ],
)
def test_a_change_is_a_few_words(told: NodeChange, words: str) -> None:
    assert described(told) == words


def test_lines_are_whole_and_in_their_order(console: Console) -> None:
    play(Lines(console))
    lines = shown(console).splitlines()
    ends = ["dice: numbers, reloaded 1", "backend   d2  max-size = 4096", "backend   d2  InitWait"]
    ends += ["frontend  d2  Initialised", "guest | hello", "guest | world", "1 operation, 0 failed"]
    ends += ["error: RequestFailed: [bold]no[/bold]", "both halves are down"]
    assert len(lines) == len(ends)
    assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True)), lines


HOSTILE = "\x1b[2J\x1b[31mEVIL\x07\x1b]0;title\x07\u202e"


@pytest.mark.parametrize("kind", [Lines, Screen])
def test_nothing_that_a_domain_says_reaches_the_terminal_as_a_command(
    console: Console, kind: type[Lines | Screen]
) -> None:
    display = kind(console)
    display.begin(1, "dice")
    display.said("guest", f"{HOSTILE}\n".encode())
    display.changed(change("max-size", HOSTILE))
    display.changed(change("", HOSTILE, "error"))
    display.error(HOSTILE)
    if isinstance(display, Screen):
        console.print(display.picture())
    text = shown(console)
    assert "EVIL" in text
    assert not {"\x1b[2J", "\x1b]", "\x07", "\u202e"} & {
        part for part in ("\x1b[2J", "\x1b]", "\x07", "\u202e") if part in text
    }


def test_the_screen_has_all_of_it_at_once(console: Console) -> None:
    screen = Screen(console)
    play(screen)
    console.print(screen.picture())
    text = shown(console)
    for words in ("dice: numbers · reloaded 1", "max-size = 4096", "InitWait", "Initialised", "guest | world"):
        assert words in text
    assert "1 operations, 0 failed" in text
    assert "RequestFailed: [bold]no[/bold]" in text
    assert "Ctrl-C ends" in text
    front, back = (next(line for line in text.splitlines() if word in line) for word in ("Initialised", "InitWait"))
    assert front.index("Initialised") < back.index("InitWait")


@pytest.mark.parametrize("height", [12, 24, 50, 200])
def test_the_screen_is_never_fuller_than_it_can_be(height: int) -> None:
    """What does not fit would be drawn again and again, one below the other."""
    console = Console(file=io.StringIO(), width=80, height=height, force_terminal=True, color_system=None)
    screen = Screen(console)
    screen.begin(1, "title " * 40)
    for number in range(1000):
        screen.changed(change("state", str(number % 9)))
        screen.changed(change("name", "x" * 100, "frontend"))
        screen.said("guest", b"line %d %s\n" % (number, b"y" * 100))
    screen.error("error " * 100)
    screen.note("note " * 100)
    console.print(screen.picture())
    lines = shown(console).splitlines()
    assert len(lines) <= min(height, STEPS + CONSOLE_LINES + OTHER_LINES)
    assert "Ctrl-C ends" in lines[-1]
    assert "line 999" in shown(console)


def test_what_was_last_on_the_screen_stays_there(console: Console) -> None:
    screen = Screen(console)
    with screen.live():
        play(screen)
    assert "both halves are down" in shown(console).rpartition("dice: numbers")[2]
