"""The site's inventory, but that the workers in $PROXIES are the proxies, as in `PROXIES=pi5,pi8`.

Each has a hairpin address of its own: the site's, and those that follow it.
"""

import os
from ipaddress import IPv4Address

_FIRST = IPv4Address("192.168.1.222")

workers = [f"pi{number}" for number in range(1, 11)]
proxy = [
    (name, {"chaos_hairpin_address": str(_FIRST + number)})
    for number, name in enumerate(os.environ["PROXIES"].split(","))
]
