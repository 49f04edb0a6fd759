"""Checks of the machine: clock, heat, power, memory, processor, watchdog, versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from edge import __version__
from edge.clock import kernel_synchronised, set_from_hardware
from edge.tools.doctor.finding import Said, fail, note, ok, warn
from edge.tools.doctor.host import Host
from edge.vitals import temperature_c

_HOT_C = 80.0  # a Pi slows down from here on (raspberrypi.com, "Frequency management and thermal control")
_LOW_MEMORY_MB = 100
_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_NOW, _SINCE_START = 0x5, 0x50005  # under-voltage and throttled: now, and either of the two since the start
_WHEELS = ("numpy", "opencv-python-headless", "ai-edge-litert", "tflite-runtime", "paho-mqtt", "gpiod")
# processor features that make the quantised models fast, where there is a word for them
_FAST = {"aarch64": ("asimddp", "i8mm"), "x86_64": ("avx2", "avx512_vnni", "avx_vnni")}


def clock(host: Host) -> Said:
    """Is the time to be believed?"""
    if kernel_synchronised():
        return ok("NTP or the like keeps it")
    if set_from_hardware(host.path("sys/class/rtc")):
        return ok("set from the hardware clock at boot; NTP does not keep it now")
    words = "neither NTP nor a hardware clock has set it: rights that depend on the time are denied"
    return warn(words, "timedatectl set-ntp true, and let the unit reach a time server")


def hardware_clock(host: Host) -> Said:
    """Does the time outlast a power cut?"""
    found = sorted(host.path("sys/class/rtc").glob("rtc*"))
    if not found:
        return warn("none: after a power cut the time is unknown until NTP comes", "fit an RTC with battery")
    names = ", ".join(f"{rtc.name} {host.text(f'sys/class/rtc/{rtc.name}/name')}" for rtc in found)
    if not set_from_hardware(host.path("sys/class/rtc")):
        words = f"{names}; it did not set the clock at boot (no battery, or never set)"
        return warn(words, "hwclock --systohc once NTP has set the time; check the battery")
    return ok(names)


def zone(host: Host) -> Said:
    """For who reads logs."""
    link = host.path("etc/localtime")
    try:
        name = str(link.readlink()).partition("zoneinfo/")[2]
    except OSError:
        name = ""
    return note(f"{name or 'UTC, or not told'}; rights are judged in the zone of the rights, events are UTC")


def heat(host: Host) -> Said:
    """Does it get too hot?"""
    degrees = temperature_c(host.path("sys/class/thermal"))
    if degrees is None:
        return note("no sensor that can be read")
    if not degrees < _HOT_C:
        return warn(f"{degrees:g} C: the processor slows down", "shade, air, or a heat sink on the housing")
    return ok(f"{degrees:g} C")


def power(host: Host) -> Said:
    """Under-voltage and throttling, which only a Raspberry Pi tells."""
    told = host.text(_THROTTLED)
    alarms = list(host.path("sys/class/hwmon").glob("hwmon*/in0_lcrit_alarm"))
    low = any(host.text(path.relative_to(host.root)) == "1" for path in alarms)
    cure = "a supply of the board's maker, a short thick cable, no load on its USB ports"
    try:
        bits = int(told, 16)
    except ValueError:
        if low:
            return fail("under-voltage", cure)
        return ok("no under-voltage") if alarms else note("this board does not tell")
    if low or bits & _NOW:
        return fail(f"under-voltage or throttled now ({told})", cure)
    if bits & _SINCE_START:
        return warn(f"under-voltage or throttled since it was switched on ({told})", cure)
    return ok(f"no under-voltage, not throttled ({told or '0'})")


def memory(host: Host) -> Said:
    """Is there some, and did the kernel kill anything for want of it?"""
    sizes = dict(line.split(":", 1) for line in host.text("proc/meminfo").splitlines() if ":" in line)
    counts = dict(line.split(" ", 1) for line in host.text("proc/vmstat").splitlines() if " " in line)
    if "MemAvailable" not in sizes:
        return note("/proc/meminfo does not tell")
    total, free = (int(sizes[key].split()[0]) // 1024 for key in ("MemTotal", "MemAvailable"))
    words, killed = f"{free} of {total} MB available", int(counts.get("oom_kill", "0"))
    if killed:
        return warn(
            f"{words}; the kernel killed {killed} processes for want of memory", "journalctl -k -g oom"
        )
    if free < _LOW_MEMORY_MB:
        return warn(words, "what else runs here? systemd-cgtop -m")
    return ok(words)


def processor(host: Host) -> Said:
    """Can the model's runtime see what the processor can do?"""
    told = host.text("proc/cpuinfo")
    if not told:
        words = "/proc/cpuinfo can't be read: LiteRT then runs FaceNet some 400 times slower"
        return fail(words, "ProcSubset=pid must not stand in the unit or its drop-ins")
    flags: set[str] = set()
    for line in told.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags |= set(value.split())
    kind = platform.machine()
    fast = [flag for flag in _FAST.get(kind, ()) if flag in flags]
    without = "without dot products of 8 bits: the models run slower"
    return ok(f"{kind}, {os.cpu_count()} cores, {', '.join(fast) if fast else without}")


def kernel_watchdog(host: Host) -> Said:
    """Is a hung kernel restarted?"""
    found = host.properties(["RuntimeWatchdogUSec"]).get("RuntimeWatchdogUSec")
    cure = "RuntimeWatchdogSec=15 in /etc/systemd/system.conf.d/doord.conf (deploy/notes/watchdog.md)"
    if found is None:
        return note("no systemd here that could feed one")
    if not list(host.path("dev").glob("watchdog*")):
        return warn("no /dev/watchdog: a hung kernel stays hung", "a board or a module with a watchdog")
    if found in ("0", "infinity"):
        return warn("not used: a hung kernel stays hung", cure)
    return ok(f"systemd feeds it, {found}")


def versions(host: Host) -> Said:
    """What runs here."""
    system = dict(line.split("=", 1) for line in host.text("etc/os-release").splitlines() if "=" in line)
    board = host.text("proc/device-tree/model")
    firmware = host.text("proc/device-tree/chosen/bootloader/version")
    parts = [
        f"doord {__version__}",
        f"Python {platform.python_version()}",
        system.get("PRETTY_NAME", "unknown system").strip('"'),
        f"kernel {platform.release()}",
        " ".join(platform.libc_ver()).strip() or "unknown libc",
        *(f"{name} {version}" for name, version in wheels().items()),
        *([board] if board else []),
        *([f"firmware {firmware[:12]}"] if firmware else []),
    ]
    return note(", ".join(parts))


def wheels() -> dict[str, str]:
    """The versions of what doord stands on."""
    found = {}
    for name in _WHEELS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


CHECKS = (
    ("clock", clock),
    ("rtc", hardware_clock),
    ("zone", zone),
    ("heat", heat),
    ("power", power),
    ("memory", memory),
    ("processor", processor),
    ("watchdog", kernel_watchdog),
    ("versions", versions),
)
