"""The LoadTester port on Locust: its processes are children of this one, or run on other hosts and send home what they
saw. What a level is to our generator is said once, in `level.py`. Not here: where other hosts come from.
"""

from controlplane.adapters.loadtester_locust.elsewhere import LoadTesterElsewhere
from controlplane.adapters.loadtester_locust.here import LocustLoadTester

__all__ = ["LoadTesterElsewhere", "LocustLoadTester"]
