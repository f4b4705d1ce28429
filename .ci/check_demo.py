"""`make demo` proves that the real thing ran: vLLM answered, and enough pairs were replayed. Silent if so."""

import json
import sys
from pathlib import Path

FEWEST_PAIRS_A_STEP = 4

saga = json.loads(Path(sys.argv[1], "result.json").read_text())["test"]["saga"]
pairs = saga["pairs_replayed"] / saga["steps"]
if saga["engine"]["name"] != "vllm":
    sys.exit(f"demo: the rollout engine was {saga['engine']['name']}, not vllm")
if pairs < FEWEST_PAIRS_A_STEP:
    sys.exit(f"demo: {pairs:.2f} pairs were replayed a step, fewer than {FEWEST_PAIRS_A_STEP}")
