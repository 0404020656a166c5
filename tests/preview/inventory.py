"""List the Chaos Engine's workers as @fake hosts.

Each answers what a fresh node of the virtual cluster (Debian 13) answered to ``record.py``.
"""

import json
import time
from pathlib import Path
from uuid import uuid4

_recording = Path(__file__).with_name("fresh_node.json").read_text()


def _host(number: int) -> tuple[str, dict[str, object]]:
    own = {"NAME": f"pi{number}", "ADDRESS": f"192.168.1.{49 + number}", "ID": str(uuid4())}
    text = _recording.replace("@CLOCK@", str(int(time.time())))
    for key, value in own.items():
        text = text.replace(f"@{key}@", value)
    data = {"fake_responses": json.loads(text), "fake_delay": 0, "fake_delay_jitter": 0}
    return f"@fake/{own['NAME']}", data


workers = [_host(number) for number in (1, 4, 5, 7)]
