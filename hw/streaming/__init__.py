"""The streaming organisation: an array for every product, all busy with different tokens.

Where the inputs are known ahead, as in frames of a sensor, tokens need not wait for one another
but for the state. Every *beat* one block of one token enters the pipe of units, each of which
works on the block that it has reached, one element a cycle.
"""

from hw.streaming.choice import choose_streaming
from hw.streaming.engine import StreamingEngine
from hw.streaming.plan import StreamingPlan

__all__ = ["StreamingEngine", "StreamingPlan", "choose_streaming"]
