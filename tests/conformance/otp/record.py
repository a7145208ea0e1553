"""Record again what OTP does: `python -m tests.conformance.otp.record` writes recorded.jsonl.

Needs erl and erlc. Each line holds one scenario and what OTP 25 answered, so that the test needs
neither OTP nor the same random numbers.
"""

import json
import tempfile
from pathlib import Path

from tests.conformance.otp.scenarios import make, record_on_otp

RECORDED = Path(__file__).with_name("recorded.jsonl")
SEEDS = range(100)


def main() -> None:
    scenarios = [make(seed) for seed in SEEDS]
    with tempfile.TemporaryDirectory() as folder:
        recorded = record_on_otp(scenarios, Path(folder))
    lines = [
        json.dumps({"seed": seed, **scenario, "otp": answers}, separators=(",", ":"))
        for seed, scenario, answers in zip(SEEDS, scenarios, recorded, strict=True)
    ]
    RECORDED.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
