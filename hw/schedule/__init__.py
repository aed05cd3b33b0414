"""The static schedule of a token, and its command ``python -m hw.schedule``."""

from hw.schedule.builder import (
    FIRST_EVENT,
    ArrayInstruction,
    Latencies,
    Schedule,
    build_schedule,
)

__all__ = ["FIRST_EVENT", "ArrayInstruction", "Latencies", "Schedule", "build_schedule"]
