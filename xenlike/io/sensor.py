"""The sensor protocol: samples that flow to the guest without being asked for, each with its time.

Beside the ring of requests there is a one-way ring of samples, the *stream*: 4 pages that the frontend grants, in
Xen's layout, and an event channel of its own. The backend produces, the frontend consumes. The backend never waits: a
sample that finds no room is lost, and counted. Its number is missing then, so the guest sees that, too.

Nodes written by the backend:
    max-rate            u32, default 1000: most samples a second

Nodes written by the frontend:
    stream-ref0 .. 3    u32: the pages of the stream, one after another in one window
    stream-channel      u32: the port that goes with it

    frontend                              backend
    state = Initialising                  state = Initialising
                                          writes max-rate
                                          state = InitWait
    grants the ring and the stream,
    makes a port for each, writes
    ring-ref, stream-ref0, ...
    state = Initialised
                                          maps both, binds both ports
                                          makes the stream's producer
                                          state = Connected
    makes the stream's consumer
    state = Connected

The producer sets the stream up, so no consumer looks at it before the backend is Connected. A sample's time is that
of CLOCK_MONOTONIC, which all domains of a host share.
"""

from __future__ import annotations

from typing import Final

from xenlike.abi.driver import Driver
from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import s16, s32, u8, u32, u64

SENSORIF_OP_START: Final = 0
"""Begins to produce; at a sensor that does, as RATE."""
SENSORIF_OP_STOP: Final = 1
"""Ends it; what is in the stream stays there, and an event says that no more comes."""
SENSORIF_OP_RATE: Final = 2
"""Goes on at another rate; an error at a sensor that is stopped."""

SENSORIF_RSP_OKAY: Final = 0
SENSORIF_RSP_ERROR: Final = -1

SENSORIF_STREAM_PAGES: Final = 4
SENSORIF_PERIOD: Final = 2048
"""Samples of one period of the simulated sensor, a triangle wave from 0 to 1,024."""


class SensorRequest(Struct, c="sensorif_request"):
    """Starts, stops, or changes the rate."""

    id: u64 = field("private to the frontend, echoed in the response")
    rate: u32 = field("START, RATE: samples a second, 1 to max-rate", unit="Hz", limit="max-rate")
    operation: u8 = field("SENSORIF_OP_*", limit=SENSORIF_OP_RATE)


class SensorResponse(Struct, c="sensorif_response"):
    """How far the sensor is."""

    id: u64 = field("of the request")
    taken: u32 = field("samples taken since the connection began, lost ones included; free-running")
    lost: u32 = field("those of them that found no room in the stream; free-running")
    status: s16 = field("SENSORIF_RSP_*")


class SensorSample(Struct, c="sensorif_sample"):
    """An entry of the stream."""

    time: u64 = field("when it was taken, CLOCK_MONOTONIC", unit="ns")
    sequence: u32 = field("number of the sample since the connection began, lost ones included; free-running")
    value: s32 = field("what was measured", unit="m°C")


def waveform(sequence: int) -> int:
    """Returns what the simulated sensor measures in the sample of a number: a triangle wave."""
    phase = sequence % SENSORIF_PERIOD
    return min(phase, SENSORIF_PERIOD - phase)


SENSOR: Final = Protocol(
    "sensorif",
    SensorRequest,
    SensorResponse,
    nodes=[
        Node("max-rate", u32, side="backend", default=1000, doc="most samples a second", unit="Hz"),
        *(Node(f"stream-ref{page}", u32, doc="a page of the stream") for page in range(SENSORIF_STREAM_PAGES)),
        Node("stream-channel", u32, doc="port of the stream"),
    ],
    doc="Streams samples to the guest.",
)

DRIVER: Final = Driver(
    "sensor",
    SENSOR,
    frontend="xenlike.frontends.sensor:SensorFront",
    backend="xenlike.backends.sensor:SensorBack",
    doc="A sensor that streams its samples.",
    exercise="xenlike.frontends.sensor:exercise",
)
