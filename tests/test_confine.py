"""What a camera's child can do, and what it can't: tried from inside, in a real one."""

import os
import re
import socket
import subprocess
import sys

import pytest
from children import python_with

from edge.config import CameraConfig
from edge.errors import CameraError
from edge.vision import child as child_module
from edge.vision import confine
from edge.vision.decoded import picamera

_ASK = "import ctypes; print(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))"
ABI = int(subprocess.run([sys.executable, "-c", _ASK], capture_output=True, check=True).stdout)


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """tried(statement): what it comes to inside a camera's child, where a camera's library would run."""

    def run(statement):
        library = tmp_path / "library"
        library.mkdir(exist_ok=True)
        lines = "\n            ".join(statement.splitlines())
        (library / "picamera2.py").write_text(f"""
import ctypes, os, resource, signal, socket, subprocess, sys
class Picamera2:
    @staticmethod
    def global_camera_info():
        got = "nothing"
        try:
            {lines}
        except BaseException as error:
            got = type(error).__name__
        raise RuntimeError(f"<{{got}}>")
""")
        monkeypatch.setattr(
            "edge.vision.decoded.SYSTEM_PYTHON", str(python_with(library, tmp_path / "python"))
        )
        with pytest.raises(CameraError) as refused:
            picamera(CameraConfig(source="picamera2", stall_s=5)).close()
        return re.search(r"<(.*)>", str(refused.value))[1]

    return run


@pytest.mark.parametrize(
    ("abi", "statement"),
    [
        (1, "got = open({state!r} + '/gallery.key').read()"),
        (1, "got = os.listdir({state!r})"),
        (1, "open({state!r} + '/new', 'w')"),
        (1, "os.unlink({state!r} + '/gallery.key')"),
        (1, "os.mkdir({state!r} + '/folder')"),
        (1, "os.symlink('/etc/passwd', {state!r} + '/link')"),
        (1, "open('/etc/shadow')"),
        (1, "open('/etc/passwd')"),
        (1, "open('/root/x', 'w')"),
        (1, "open('/tmp/doord-confine-test', 'w')"),
        (1, "open('/usr/doord-confine-test', 'w')"),
        (1, "open('/proc/{parent}/mem', 'rb')"),
        (4, "socket.create_connection(('127.0.0.1', {port}), 1)"),
        (4, "socket.create_server(('127.0.0.1', 0))"),
        (0, "os.kill({parent}, 0)"),
        (0, "os.pidfd_open({parent}); signal.pidfd_send_signal(os.pidfd_open({parent}), 0)"),
        (0, "socket.socket(socket.AF_UNIX).connect({unix!r})"),
        (0, "if ctypes.CDLL(None, use_errno=True).ptrace(16, {parent}, 0, 0) < 0: raise PermissionError"),
        (0, "if ctypes.CDLL(None, use_errno=True).syscall(425, 8, 0) < 0: raise PermissionError"),
    ],
)
def test_neither_state_nor_keys_nor_the_daemon_can_be_reached(tried, tmp_path, abi, statement):
    if abi > ABI:
        pytest.skip(f"this kernel has Landlock {ABI}, and this takes {abi}")
    state = tmp_path / "state"
    state.mkdir()
    (state / "gallery.key").write_text("secret")
    path = str(tmp_path / "control.sock")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as control:
        control.bind(path)
        control.listen()
        values = {"state": str(state), "port": listener.getsockname()[1], "parent": os.getpid(), "unix": path}
        assert tried(statement.format(**values)) in ("PermissionError", "ProcessLookupError")
    assert (state / "gallery.key").read_text() == "secret"


def test_what_a_camera_needs_is_there(tried):
    statement = (
        "open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(1)\n"
        "open('/proc/cpuinfo').read(); os.listdir('/usr/lib'); os.listdir('/sys'); os.listdir('/dev')\n"
        "import json, threading, numpy\n"
        "t = threading.Thread(target=lambda: None); t.start(); t.join(); got = 'all'"
    )
    assert tried(statement) == "all"


def test_the_leash_is_on(tried):
    status = tried(
        "import re; s = open('/proc/self/status').read()\n"
        "pds = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(pds), 0, 0, 0)\n"
        "score = open('/proc/self/oom_score_adj').read().strip()\n"
        "core = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "got = [re.search(r'NoNewPrivs:.(.)', s)[1], pds.value, score, core]"
    )
    assert status == "['1', 9, '800', (0, 0)]"


def test_a_decoder_owns_no_more_memory_than_it_is_given():
    code = (
        f"import runpy; leash = runpy.run_path({confine.__file__!r})['leash']\n"
        "leash(64 * 2**20)\ntry: bytearray(80 * 2**20)\nexcept MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr


class NoLandlock:
    """A libc of a kernel, or a service, without it."""

    def syscall(self, *_):
        return -1


def test_without_landlock_it_is_told_and_the_camera_goes_on(monkeypatch):
    monkeypatch.setattr(confine.ctypes, "CDLL", lambda *_a, **_k: NoLandlock())
    assert confine.confine((), ()).startswith("this kernel or this unit has no Landlock (")


def test_a_note_of_a_child_is_logged_once(tmp_path, caplog, monkeypatch):
    from children import child

    monkeypatch.setattr(child_module, "_noted", set())
    body = "say('note: not confined'); os.write(2, b'note: of a server\\n'); paint(0, 1, 1); tell()\n"
    body += "while True: time.sleep(1)"
    for _ in range(2):
        camera = child_module.ChildCamera(child(body), 2)
        camera.read()
        camera.close()
    assert [r.getMessage() for r in caplog.records] == ["the camera: not confined"]


@pytest.mark.parametrize("may_exec", [False, True])
@pytest.mark.parametrize(
    "statement",
    [
        "resource.prlimit(victim, resource.RLIMIT_NOFILE, (3, 3))",
        "resource.prlimit(victim, resource.RLIMIT_CPU, (1, 1))",
        "os.setpriority(os.PRIO_PROCESS, victim, 19)",
        "os.sched_setaffinity(victim, {0})",
        "os.sched_setscheduler(victim, os.SCHED_IDLE, os.sched_param(0))",
        "fcntl.fcntl(0, fcntl.F_SETOWN, victim)",
        "fcntl.fcntl(0, 15, struct.pack('ii', 1, victim))",
        "fcntl.fcntl(0, 10, 9)",
        "fcntl.ioctl(socket.socket(), 0x8901, struct.pack('i', victim))",
        "fcntl.ioctl(socket.socket(), 0x8902, struct.pack('i', victim))",
    ],
)
def test_the_daemons_limits_priority_and_signals_are_out_of_reach(statement, may_exec):
    """It is of the same user, so the kernel would let a decoder that was taken over do all of these."""
    victim = subprocess.Popen(["/bin/sleep", "60"])
    code = (
        f"import fcntl, os, resource, runpy, socket, struct; c = runpy.run_path({confine.__file__!r})\n"
        f"victim = {victim.pid}; c['leash'](None); assert c['filter_calls']({may_exec}) is None\n"
        f"resource.getrlimit(resource.RLIMIT_CPU); fcntl.fcntl(0, fcntl.F_GETFL)\n"
        f"try: {statement}\nexcept PermissionError: os._exit(3)"
    )
    try:
        run = [sys.executable, "-I", "-c", code]
        done = subprocess.run(run, stdin=subprocess.PIPE, capture_output=True, timeout=60, check=False)
        assert done.returncode == 3, done.stderr
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("os.fork() or os._exit(0)", True),
        ("os.posix_spawn('/bin/true', ['true'], {})", True),
        ("import ctypes; os._exit(3 if ctypes.CDLL(None).syscall(435, bytes(88), 88) < 0 else 0)", True),
        ("import threading; t = threading.Thread(target=os._exit, args=[7]); t.start(); t.join()", False),
        ("os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(7)'])", True),
        ("os.kill(os.getpid(), 0)", True),
        ("os.abort()", False),
        ("socket.socket(socket.AF_INET).close(); socket.socketpair()[0].close(); raise SystemExit(7)", False),
    ],
)
def test_a_decoder_of_streams_runs_no_program_and_can_still_end_itself(statement, refused):
    code = (
        f"import os, runpy, socket, sys; c = runpy.run_path({confine.__file__!r})\n"
        "c['leash'](None); assert c['filter_calls'](False) is None\n"
        f"try: {statement}\nexcept PermissionError: os._exit(3)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == (3 if refused else -6 if "abort" in statement else 7), done.stderr


def test_a_machine_whose_system_calls_are_not_known_is_told(monkeypatch):
    monkeypatch.setattr(confine.os, "uname", lambda: os.uname_result(("", "", "", "", "riscv64")))
    assert confine.filter_calls(False) == "no system calls are known of riscv64"
