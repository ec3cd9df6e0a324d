"""The ways in which a device can be stuck, from certain to vague: the first rule that applies explains it.

Each file is one chapter of a device's life, and readable by itself:

    domains      who is not there at all
    errors       who refused, or gave up, and said why
    sharing      what the frontend shares: nodes, ring, grants, event channel
    closing      the way out
    handshake    who has to move next
    ring         who has published what, and who sleeps
    stream       one-way rings
    well         nothing is wrong
"""

from xenlike.toolstack.why.rules.closing import CLOSING
from xenlike.toolstack.why.rules.domains import DOMAINS
from xenlike.toolstack.why.rules.errors import ERRORS, REFUSALS
from xenlike.toolstack.why.rules.handshake import HANDSHAKE, LINKS
from xenlike.toolstack.why.rules.ring import RING
from xenlike.toolstack.why.rules.sharing import SHARING
from xenlike.toolstack.why.rules.stream import STREAM
from xenlike.toolstack.why.rules.well import MOVING, WELL

RULES = (*DOMAINS, *LINKS, *MOVING, *REFUSALS, *SHARING, *ERRORS, *CLOSING, *HANDSHAKE, *RING, *STREAM, *WELL)

__all__ = ["RULES"]
