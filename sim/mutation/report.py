"""Writes the verdicts as JSON and as a Markdown table."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence

from sim.mutation.campaign import Verdict


def to_json(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as JSON."""
    report = {
        "faults": len(verdicts),
        "caught": sum(verdict.caught for verdict in verdicts),
        "survivors": [verdict.name for verdict in verdicts if not verdict.caught],
        "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts],
    }
    return json.dumps(report, indent=1) + "\n"


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return a table of the faults, preceded by how many each probe saw first."""
    survivors = [verdict for verdict in verdicts if not verdict.caught]
    first = Counter(verdict.probe for verdict in verdicts if verdict.caught)
    lines = [
        f"# Mutation test: {len(verdicts) - len(survivors)} of {len(verdicts)} faults caught",
        "",
        "First seen at: " + ", ".join(f"{probe} {count}" for probe, count in first.most_common()),
        "",
        "| fault | unit | what is wrong | stream | first seen at |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {v.name} | {v.unit} | {v.kind} | {v.scenario or '-'} | {v.probe or 'SURVIVED'} |"
        for v in verdicts
    ]
    return "\n".join(lines) + "\n"
