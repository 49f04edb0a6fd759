"""Build doord's Debian packages, and of each the one file that installs it offline.

    deploy/package/build [py311-aarch64 ...] [--all] [--out dist]

A package for aarch64 can be built on x86_64: it is made of wheels. With the same sources, lock file and
SOURCE_DATE_EPOCH (the last commit's time, unless set) each build gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import debian_files
import wheels
from targets import ROOT, TARGETS, Target, this_machine

HERE = Path(__file__).resolve().parent
WORK = ROOT / ".cache" / "package"
LAUNCHER = """\
#!/usr/bin/python{python} -IB
import sys

sys.path.insert(0, "/usr/lib/doord/site-packages")
from {module} import main

sys.exit(main())
"""
COMMANDS = {"doord": "edge.cli", "doord-lock": "edge.lock"}
UPGRADING = ("__main__.py", "package.py", "system.py", "trial.py")
FILES = {  # of the repository: where, and whether it runs
    "systemd/60-doord.rules": ("usr/lib/udev/rules.d/60-doord.rules", False),
    "systemd/doord.sysusers": ("usr/lib/sysusers.d/doord.conf", False),
    "systemd/doord.tmpfiles": ("usr/lib/tmpfiles.d/doord.conf", False),
    "systemd/credentials": ("usr/lib/doord/credentials", True),
    "deploy/upgrade": ("usr/lib/doord/upgrade", True),
    **{f"deploy/upgrading/{name}": (f"usr/lib/doord/upgrading/{name}", False) for name in UPGRADING},
    "systemd/doord-gpu.conf": ("usr/share/doc/doord/examples/doord-gpu.conf", False),
    "systemd/csi-raspberry-pi.conf": ("usr/share/doc/doord/examples/csi-raspberry-pi.conf", False),
    "systemd/csi-jetson.conf": ("usr/share/doc/doord/examples/csi-jetson.conf", False),
    "config.yaml": ("usr/share/doc/doord/examples/config.yaml", False),
}
UNITS = ("*.service", "*.timer")
TARBALL = ("install", "uninstall", "upgrade", *(f"upgrading/{name}" for name in UPGRADING))


def main() -> int:
    """Build what was asked for, by default for this machine; prints the tarballs."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(description="build doord's Debian packages and offline tarballs")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}")
    parser.add_argument("--all", action="store_true", help="every Python and architecture")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    wrong = [name for name in options.targets if name not in names]
    if wrong:
        parser.error(f"expected targets of {', '.join(names)}, got {wrong[0]}")
    chosen = [target for target in TARGETS if options.all or target.name in options.targets]
    options.out.mkdir(parents=True, exist_ok=True)
    for target in chosen or [this_machine()]:
        print(build(target, options.out, source_date_epoch()))
    return 0


def build(target: Target, out: Path, epoch: int) -> Path:
    """One target's package and tarball; the tarball."""
    work = WORK / target.name
    fetched = wheels.fetch(target, work / "wheels")
    setuptools = next(path for path in fetched if path.name.startswith("setuptools-"))
    own = wheels.own_wheel(work / "own", setuptools, epoch)
    version = f"{own.name.split('-')[1]}+{target.tag}"
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    fill(root, target, [*fetched, own], version, epoch)
    package = out / f"doord_{version}_{target.debian_arch}.deb"
    _date(root, epoch)
    _pack(root, package, epoch)
    return bundle(package, out / f"doord-{own.name.split('-')[1]}-{target.name}.tar", epoch)


def _pack(root: Path, package: Path, epoch: int) -> None:
    """zstd: dpkg reads it since 1.21.18 (Debian 12, Ubuntu 22.04), and a door waits for no xz."""
    command = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z6", "--build", str(root), str(package)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=1800, env=environment)


def fill(root: Path, target: Target, parts: list[Path], version: str, epoch: int) -> None:
    """Lay the package's tree out."""
    site = root / "usr/lib/doord/site-packages"
    for wheel in parts:
        wheels.unpack(wheel, site)
    for name, module in COMMANDS.items():
        _put(
            root / "usr/bin" / name, LAUNCHER.format(python=target.python, module=module).encode(), runs=True
        )
    for source, (place, runs) in FILES.items():
        _put(root / place, (ROOT / source).read_bytes(), runs=runs)
    for unit in sorted(path for pattern in UNITS for path in (ROOT / "systemd").glob(pattern)):
        _put(root / "usr/lib/systemd/system" / unit.name, unit.read_bytes())
    documents = root / "usr/share/doc/doord"
    _put(documents / "changelog.gz", debian_files.changelog(version, epoch))
    _put(documents / "CHANGELOG.md.gz", debian_files.compressed((ROOT / "CHANGELOG.md").read_bytes()))
    _put(documents / "README.md.gz", debian_files.compressed((ROOT / "README.md").read_bytes()))
    _put(documents / "copyright", debian_files.copyright_file(site).encode())
    _put(root / "usr/share/lintian/overrides/doord", (HERE / "debian/lintian-overrides").read_bytes())
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024
    needs = debian_files.depends(target, site)
    _put(root / "DEBIAN/control", debian_files.control(target, version, needs, size).encode())
    _put(root / "DEBIAN/md5sums", debian_files.md5sums(root).encode())
    for script in ("postinst", "prerm", "postrm"):
        text = (HERE / "debian" / script).read_text().replace("@PYTHON@", f"python{target.python}")
        _put(root / "DEBIAN" / script, text.encode(), runs=True)


def bundle(package: Path, tarball: Path, epoch: int) -> Path:
    """The one file that installs offline: package, scripts, sums, a configuration to start from."""
    files = {name: ROOT / "deploy" / name for name in TARBALL}
    files |= {package.name: package, "config.yaml": ROOT / "config.yaml"}
    sums_file = tarball.with_suffix(".sums")
    sums_file.write_text("".join(f"{_sum(path)}  {name}\n" for name, path in sorted(files.items())))
    files["SHA256SUMS"] = sums_file

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = epoch
        member.mode = 0o755 if member.mode & 0o100 else 0o644
        return member

    with tarfile.open(tarball, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, path in sorted(files.items()):
            archive.add(path, f"{tarball.stem}/{name}", filter=plain)
    sums_file.unlink()
    return tarball


def source_date_epoch() -> int:
    """The time all files get: SOURCE_DATE_EPOCH, or the last commit's, or that of pyproject.toml."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    newest = int((ROOT / "pyproject.toml").stat().st_mtime)
    if shutil.which("git") is None:
        return newest
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return int(done.stdout) if done.returncode == 0 else newest


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _put(path: Path, data: bytes, runs: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o755 if runs else 0o644)


def _date(root: Path, epoch: int) -> None:
    """One time and mode for all: bytes may not depend on when and by whom this was built."""
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        elif path.is_relative_to(root / "usr/lib/doord/site-packages"):
            path.chmod(0o644)
        os.utime(path, (epoch, epoch))


if __name__ == "__main__":
    sys.exit(main())
