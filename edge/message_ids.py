"""The stable MESSAGE_ID of each kind of event and of each log line worth searching for. Pure.

`journalctl MESSAGE_ID=…` finds them whatever their words are; an id is never changed nor used again.
"""

from __future__ import annotations

MESSAGE_IDS: dict[str, str] = {
    # events
    "AccessGranted": "0c589bc8c1534a558e04f5b7a2029ccd",
    "AccessDenied": "8f4ecd297f5041fd837b3577a64abade",
    "CameraFault": "b349e007db494a328ccc5f0ee963e0c1",
    "CameraRestored": "0e46bb1a81374c6083abae868b180f2a",
    "ThrottleRaised": "1d2166bc18d7476e819eab87204f1904",
    "AttackAlarm": "e820186f836a4aeebac40d35ef48b100",
    "DoorFault": "ee6b99d4965c41738e4474e60d201e7e",
    "DoorForcedOpen": "11d1439957a44c70b480efb186a9a420",
    "DoorOpenTooLong": "14f778619c964e42841eebc03155944b",
    "DoorOpenPreAlarm": "639cc0c624084813a6e20059fcd76407",
    "DoorTamper": "25e66e1e3027477a8d5f6f0639c98fa2",
    "DoorAlarmCleared": "1603e8d0e47c4e4bb7ca342f3aa0b2e3",
    "ExitRequested": "31807e4aba6245d08a1c679eb1b24b5a",
    "GalleryApplied": "878ed99bff134225a58f6085d9fca799",
    "GalleryRefused": "9c2a8097e81d4b1fb578daf4a82a276d",
    "CommandObeyed": "902fe8a5cdc543ff8ca965020fc2867a",
    "CommandRefused": "8ef188c964cb49838deaf7724fde9172",
    "Started": "7c3a380785ce4eadb772f46d3c0288b6",
    "Stopped": "919913bdfba8436c947ef3286730473c",
    "EventUnsynced": "03d31af1206c46b4bf6e171ce7983487",
    "EventsDropped": "10b344d8aacc42738182325db67b471c",
    "AckRefused": "b577c6ade80646cfb4cb28aedf8b356b",
    "LedgerDamaged": "b0a884b6aa8d48129d674ca4df6f4608",
    "ConfigReloaded": "af0b023225f54dba8aa6eada36164995",
    "ConfigRefused": "e0a7462d635849bd80359098fec21492",
    "UnitSlow": "0b6887e562fa4f4f9f108030d943a999",
    "UnitRestored": "3f11cc02f64f4adaaf20373a364c24b7",
    # other lines
    "Starting": "70cff05485ea4ce5afae8053bb249e65",
    "Armed": "fda9dcb618fb4d46ae9e36b0f4a3a096",
    "NotArmed": "49dfb930815e493d9eb5ec35df2cbef1",
    "DoorState": "f230bfb194774786ae89fab9f4c4e519",
    "BrokerConnected": "5655e6aac09c4a92944b22d1a8e890d3",
    "BrokerFault": "178b55c7ccf34f5286eed379f22470dd",
    "ThreadDied": "8a2d5b92f85844068e733667ad97123c",
    "ThreadHangs": "cd4362c9f4fb49db8be90c79e87ab034",
    "LineFault": "2ec47493bbe64a7dbd5d1cf1b8638bc0",
    "Folded": "a8cd29dcf5434cf9a9ea0615247c6970",
    "BridgeObeyed": "a21c5c9573664c2092293a8e79a84970",
    "BridgeRefused": "95084677021e4c08917311cb7bca93d0",
}
