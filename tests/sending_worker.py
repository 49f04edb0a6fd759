"""A door's ledger and link in a process of its own, to be killed: sending_worker.py LEDGER PORT KEY COUNT.

It makes events until its ledger has COUNT, and sends what is not acknowledged.
"""

import os
import sys
import time
from pathlib import Path

from events import SETTING

from edge.admin.keystore import signer_of
from edge.config import MqttConfig
from edge.link import outbox, wire
from edge.link.acks import AckDesk
from edge.link.broker import Login
from edge.link.ledger import Ledger
from edge.link.mqtt import MqttLink

PAUSE_S = float(os.environ.get("DOORD_TEST_PAUSE_S", "0.001"))

outbox.AGAIN_S = (2.0, 10.0)  # not a minute, since the test is to end

if __name__ == "__main__":
    path, port, key, count = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    ledger = Ledger(path)
    ledger.open()
    public = signer_of(key.read_text(), str(key)).public_key
    acks = AckDesk("hq", "front", ledger, lambda: {public.keyid: public}, print)
    login, topics = Login(MqttConfig(host="127.0.0.1", port=port)), wire.Topics("hq", "front")
    link = MqttLink(login, topics, ledger, simulation=True, acks=acks, retry_s=(0.05, 0.2))
    link.start()
    while ledger.head.seq < count:
        stamp = wire.Stamp.of(time.time(), os.urandom(10))
        ledger.append(wire.notice("ExitRequested", f"press {ledger.head.seq + 1}", stamp, SETTING))
        ledger.keep_head()
        link.wake()
        time.sleep(PAUSE_S)
    while True:
        time.sleep(1)
