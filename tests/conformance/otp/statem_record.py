"""Record again what OTP's gen_statem does: `python -m tests.conformance.otp.statem_record`.

Needs erl and erlc. Each line of statem_recorded.jsonl holds a seed and what OTP 25 answered.
"""

import json
import tempfile
from pathlib import Path

from tests.conformance.otp.statem_scenarios import make, play, record_on_otp

RECORDED = Path(__file__).with_name("statem_recorded.jsonl")
COUNT = 150
STEPS_MIN = 8
"""Shorter traces show little."""


def main() -> None:
    seeds = [seed for seed in range(2000) if play(make(seed)).count(";") >= STEPS_MIN][:COUNT]
    with tempfile.TemporaryDirectory() as folder:
        recorded = record_on_otp([make(seed) for seed in seeds], Path(folder))
    lines = [
        json.dumps({**make(seed), "otp": answer}, separators=(",", ":"))
        for seed, answer in zip(seeds, recorded, strict=True)
    ]
    RECORDED.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
