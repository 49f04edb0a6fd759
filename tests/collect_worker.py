"""A collector in a process of its own, to be killed: collect_worker.py STORE PORT KEY."""

import sys
import threading
from pathlib import Path

from collecting import FixedRoster
from signing import new_signer

from edge.admin.collect import Collector
from edge.admin.keystore import signer_of
from edge.admin.store import EventStore

if __name__ == "__main__":
    roster = FixedRoster(int(sys.argv[2]), front=new_signer())
    roster.signer = signer_of(Path(sys.argv[3]).read_text(), sys.argv[3])
    with EventStore(Path(sys.argv[1]), "hq") as store:
        Collector(roster, store, print, retry_s=(0.1, 0.2)).run(threading.Event())
