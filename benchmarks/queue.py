"""The queue: from a wake-up to the claim, and a list of 10,000 jobs.

python benchmarks/queue.py [--json FILE] [--shrink]
"""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "queue":
    # A program in this folder wanted the standard library's module of this name, and Python looks here first.
    here, others = Path(__file__).resolve().parent, sys.path[:]
    sys.path = [one for one in sys.path if Path(one or ".").resolve() != here]
    del sys.modules["queue"]
    sys.modules["queue"] = import_module("queue")
    sys.path = others
elif __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import_module("benchmarks.queue_marks").main()
