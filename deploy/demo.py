"""The demo behind deploy/demo: the real daemon, real models, a real broker, a simulated door.

One subject is enrolled from one photograph; the camera is a clip of other photographs of that
subject and of strangers. Exit 0 only if exactly the right one opened the door.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from demo_picture import contact_sheet
from demo_scene import Scene, photograph_scenes, write_clip
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import DoordError
from edge.link import wire
from edge.vision.pictures import PICTURE_SUFFIXES, save_picture

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "tests" / "pictures"
DOORD = Path(sys.executable).parent / "doord"
TOPICS = wire.Topics("demo", "front")
PR_SET_PDEATHSIG = 1


@dataclass
class Heard:
    """What the broker delivered, in order of arrival."""

    events: list[tuple[float, wire.Event]] = field(default_factory=list)
    locks: list[tuple[float, str]] = field(default_factory=list)
    status: wire.Status | None = None
    began: float = 0.0

    def take(self, message: MQTTMessage) -> None:
        """One message, printed as it comes."""
        now = time.monotonic()
        if message.topic == TOPICS.event:
            self._event(now, wire.decode_event(bytes(message.payload)))
        elif message.topic == TOPICS.state:
            self._state(now, wire.decode_state(bytes(message.payload)))
        elif message.topic == TOPICS.status:
            self.status = wire.decode_status(bytes(message.payload))

    def _event(self, now: float, event: wire.Event) -> None:
        self.events.append((now, event))
        say(now - self.began, f"event {event.seq:2}  {describe(event)}")

    def _state(self, now: float, state: wire.State) -> None:
        if not self.locks or self.locks[-1][1] != state.lock:
            self.locks.append((now, state.lock))
            say(now - self.began, f"state     door {state.mode.value}, relay {state.lock}")

    def granted(self) -> list[str]:
        """Who opened the door, in order."""
        return [e.subject for _, e in self.events if isinstance(e, wire.Granted)]

    def denied(self) -> list[str]:
        """Why it stayed locked, in order."""
        return [e.reason.value for _, e in self.events if isinstance(e, wire.Denied)]


def describe(event: wire.Event) -> str:
    """An event in a few words."""
    if isinstance(event, wire.Granted):
        return f"AccessGranted  {event.subject}  distance {event.distance:.2f}"
    if isinstance(event, wire.Denied):
        return f"AccessDenied   {event.reason.value}"
    return f"{event.kind}  {event.detail}"


def say(at_s: float, words: str) -> None:
    """One line of the live log."""
    print(f"  {at_s:6.1f} s  {words}", flush=True)


def die_with_me() -> None:
    """In a child, before it starts: the kernel ends it when the demo ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def child(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=die_with_me)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """Mosquitto on a free loopback port."""
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    conf = folder / "mosquitto.conf"
    # as root it would change to its own user, and the kernel then forgets to end it with the demo
    user = "user root\n" if os.geteuid() == 0 else ""
    conf.write_text(f"{user}listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    with child([program, "-c", str(conf)], folder / "mosquitto.log") as process:
        for _ in range(100):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    yield port
                    return
            if process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"demo: mosquitto did not start: {(folder / 'mosquitto.log').read_text().strip()}")


@contextmanager
def listener(port: int, heard: Heard) -> Iterator[None]:
    """A client that hears all the door says."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda _client, _userdata, message: heard.take(message)
    client.connect("127.0.0.1", port)
    client.subscribe(f"{TOPICS.base}/#", qos=1)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def configuration(folder: Path, port: int, source: str, options: argparse.Namespace) -> Path:
    """The demo's config.yaml: what a door has, with `simulation: true`."""
    config = {
        "site": TOPICS.site,
        "door_id": TOPICS.door,
        "simulation": True,
        "state_dir": str(folder / "state"),
        "socket": str(folder / "control.sock"),
        "door": {"relay": {"line": 17, "active": "high"}, "unlock_s": 1.5},
        "camera": {"source": source, "loop": False, "insecure": source.startswith(("http:", "rtsp:"))},
        "pad": {"mode": "auto" if options.camera is not None else "monitor"},
        "mqtt": {"host": "127.0.0.1", "port": port},
    }
    if options.min_eye_distance is not None:
        config["quality"] = {"min_eye_distance_px": options.min_eye_distance}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def doord(*arguments: str) -> None:
    """Run a doord command; its output is the demo's."""
    print(f"$ doord {' '.join(arguments)}", flush=True)
    done = subprocess.run([DOORD, *arguments], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"demo: {done.stderr.strip().splitlines()[-1] if done.stderr else 'doord failed'}")


def watch(config: Path, heard: Heard, folder: Path, for_s: float) -> None:
    """Run the daemon until its clip has ended, or for `for_s`."""
    print("$ doord run -c config.yaml")
    heard.began = time.monotonic()
    deadline = heard.began + for_s
    with child([str(DOORD), "run", "-c", str(config)], folder / "doord.log") as daemon:
        while time.monotonic() < deadline and daemon.poll() is None and not clip_ended(heard.status):
            time.sleep(0.1)
        ended = daemon.poll()
        if ended is None:
            time.sleep(2.5)  # the last attempt's event and the relay's return
    if ended is not None:
        tail = (folder / "doord.log").read_text().strip().splitlines()[-3:]
        raise SystemExit("demo: the daemon ended by itself: " + " | ".join(tail))


def clip_ended(status: wire.Status | None) -> bool:
    """Whether the file camera has shown its last picture."""
    return status is not None and any("clip has ended" in why for why in status.why_not)


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="deploy/demo", description=__doc__)
    own = parser.add_argument_group("your own input")
    own.add_argument(
        "--camera",
        metavar="SOURCE",
        help="0, /dev/video0 or http://...: enrol yourself, then come to the door",
    )
    own.add_argument(
        "--faces", type=Path, metavar="DIR", help="photographs to enrol: NAME.jpg, or NAME/*.jpg"
    )
    own.add_argument(
        "--probe",
        type=Path,
        action="append",
        metavar="FILE",
        help="photograph to show to the door (may be repeated)",
    )
    own.add_argument(
        "--min-eye-distance", type=float, metavar="PX", help="quality.min_eye_distance_px, for small pictures"
    )
    own.add_argument(
        "--seconds", type=float, default=30, help="how long --camera watches the door (default 30)"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "demo-out", help="folder of the picture (default demo-out)"
    )
    options = parser.parse_args(arguments)
    called_from = Path(os.environ.get("DEMO_CALLED_FROM", "."))
    options.out = called_from / options.out
    options.faces = options.faces and called_from / options.faces
    options.probe = [called_from / path for path in options.probe or []]
    if bool(options.faces) != bool(options.probe):
        parser.error("--faces and --probe go together")
    return options


def subject_id(name: str) -> str:
    """A subject id out of a file's or folder's name."""
    cleaned = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")
    return cleaned[:32] or f"somebody-{sum(name.encode()) % 10000}"


def people(folder: Path) -> dict[str, list[Path]]:
    """Subject -> photographs, from NAME.jpg or NAME/*.jpg."""
    found: dict[str, list[Path]] = {}
    if not folder.is_dir():
        raise SystemExit(f"demo: {folder}: expected a folder of photographs")
    for path in sorted(folder.iterdir()):
        photos = sorted(path.iterdir()) if path.is_dir() else [path]
        photos = [p for p in photos if p.suffix.lower() in PICTURE_SUFFIXES]
        if photos:
            found.setdefault(subject_id(path.stem), []).extend(photos)
    if not found:
        raise SystemExit(f"demo: {folder}: expected photographs NAME.jpg or NAME/*.jpg, got none")
    return found


def stage(options: argparse.Namespace, folder: Path) -> tuple[str, list[Scene]]:
    """The camera of this demo: its source, and what a clip shows when it is one."""
    if options.camera is not None:
        return options.camera, []
    if options.probe:
        scenes = photograph_scenes([(path, None) for path in options.probe])
    else:
        shown = [
            ("astronaut.jpg", None),
            ("obama2.jpg", "obama"),
            ("biden.jpg", None),
            ("obama3.jpg", "obama"),
        ]
        scenes = photograph_scenes([(PICTURES / name, who) for name, who in shown])
    write_clip(folder / "clip.avi", scenes)
    return f"file:{folder / 'clip.avi'}", scenes


def enrol(options: argparse.Namespace, config: Path) -> None:
    """Somebody is enrolled."""
    if options.camera is not None:
        print("Look at the camera: five pictures are taken.")
        doord("enrol", "-c", str(config), "--subject", "you", "--camera")
        print("Enrolled as `you`. Stand before the camera, go away, come back.")
        return
    chosen = people(options.faces) if options.faces else {"obama": [PICTURES / "obama.jpg"]}
    for subject, photos in chosen.items():
        doord("enrol", "-c", str(config), "--subject", subject, *map(str, photos))


def judge(options: argparse.Namespace, scenes: list[Scene], heard: Heard) -> bool:
    """Whether exactly the right one opened, and the relay went back each time."""
    print(f"\nopened for: {', '.join(heard.granted()) or 'nobody'}")
    print(f"refused: {', '.join(heard.denied()) or 'nobody'}")
    relay = [lock for _, lock in heard.locks]
    print(f"relay: {' -> '.join(relay)}")
    back = bool(relay) and relay[-1] == "locked" and relay.count("unlocked") == len(heard.granted())
    if options.camera is not None or options.probe:
        return back
    expected = [scene.expected for scene in scenes if scene.expected]
    strangers = sum(scene.expected is None for scene in scenes)
    return back and heard.granted() == expected and heard.denied() == ["NoMatch"] * strangers


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; the exit code."""
    options = options_of(arguments)
    print("doord demo: the relay is simulated; presentation-attack detection only watches (but with")
    print("--camera), since a demo of photographs *is* the attack\n")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="doord-demo-")))
        source, scenes = stage(options, folder)
        port = stack.enter_context(broker(folder))
        print(f"mosquitto listens on 127.0.0.1:{port}")
        config = configuration(folder, port, source, options)
        enrol(options, config)
        heard = Heard()
        stack.enter_context(listener(port, heard))
        watch(
            config, heard, folder, options.seconds if options.camera is not None else 20 + 6.0 * len(scenes)
        )
        options.out.mkdir(parents=True, exist_ok=True)
        sheet = options.out / "demo.png"
        save_picture(sheet, contact_sheet(config, scenes, heard.events, heard.locks, heard.began, describe))
        shutil.copy(folder / "doord.log", options.out / "doord.log")
    good = judge(options, scenes, heard)
    print(f"picture: {sheet}\nlog of the daemon: {options.out / 'doord.log'}")
    print(
        "\n"
        + ("exactly the right one opened the door." if good and not (options.camera or options.probe) else "")
    )
    print(NEXT if good else "This is not what should have happened: see the log above.")
    return 0 if good else 1


NEXT = """What to do next:
  deploy/demo --camera 0                        the same with your own face
  deploy/demo --faces DIR --probe FILE          the same with your own photographs
  .venv-demo/bin/doord --help                   every command
  README.md                                     a real door: relay, camera, broker
  deploy/check                                  all tests"""


def end(_signal: int, _frame: object) -> None:
    """SIGTERM ends the demo as Ctrl-C does: children and the folder with the key go with it."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("demo: interrupted")
    except DoordError as error:
        sys.exit(f"demo: {error}")
