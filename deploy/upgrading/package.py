"""Package files: whole, doord's, and of a kind that fits this machine; and one made of what is installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from system import DPKG_S, MIB, Refused, run


@dataclass(frozen=True)
class Package:
    """What a package file says of itself."""

    version: str
    arch: str
    depends: tuple[str, ...]
    state_format: str
    size_kib: int

    @property
    def release(self) -> str:
        """doord's own version, as the daemon tells it."""
        return self.version.split("+py")[0]

    @property
    def python(self) -> str:
        """The interpreter's package: `python3.11`."""
        return next((need for need in self.depends if need.startswith("python3.")), "python3")


def unwrapped(file: Path, into: Path) -> Path:
    """The whole, undamaged .deb of a .deb or of a tarball, copied. Raises Refused."""
    try:
        if tarfile.is_tarfile(file):
            _from_tarball(file, into)
        else:
            shutil.copyfile(file, into)
            _same_sum(file, into)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Refused(f"{file}: can't be read: {error}") from None
    listing = subprocess.run(["dpkg-deb", "--fsys-tarfile", into], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, check=False, timeout=DPKG_S)  # fmt: skip
    if listing.returncode:
        raise Refused(f"{file}: expected a whole Debian package, got a damaged file or another")
    return into


def _from_tarball(file: Path, into: Path) -> None:
    with tarfile.open(file) as archive:
        members = {Path(member.name).name: member for member in archive if member.isfile()}
        name = next((name for name in members if name.endswith(".deb")), None)
        sums = archive.extractfile(members["SHA256SUMS"]) if "SHA256SUMS" in members else None
        packed = archive.extractfile(members[name]) if name else None
        if sums is None or packed is None:
            raise Refused(f"{file}: expected a package and SHA256SUMS in it")
        with into.open("wb") as copy:
            shutil.copyfileobj(packed, copy)
        _checked(file, f"{_sum(into)}  {name}" in sums.read().decode().splitlines())


def _same_sum(file: Path, copy: Path) -> None:
    """Where SHA256SUMS lies beside a package and names it, it must be right."""
    sums = file.parent / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.exists() else []
    wanted = [line.split()[0] for line in lines if line.endswith(f"  {file.name}")]
    _checked(file, not wanted or wanted == [_sum(copy)])


def _checked(file: Path, right: bool) -> None:
    if not right:
        raise Refused(f"{file}: is damaged: the sum differs from SHA256SUMS")


def _sum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while piece := data.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def read_package(deb: Path) -> Package:
    """What a package says of itself. Raises Refused: it is not doord's."""
    fields = ("Package", "Version", "Architecture", "Depends", "Doord-State-Format", "Installed-Size")
    done = run("dpkg-deb", "--field", str(deb), *fields)
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    if done.returncode:
        raise Refused(f"dpkg-deb can't read the package: {' '.join(done.stderr.split())}")
    if said.get("Package") != "doord":
        raise Refused(f"expected the package doord, got {said.get('Package', 'another file')}")
    return _package(said)


def installed() -> Package | None:
    """The package that is installed; None: none, or not wholly."""
    done = run("dpkg-query", "--status", "doord")
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    return _package(said) if said.get("Status", "").endswith(" installed") else None


def _package(said: dict[str, str]) -> Package:
    needs = tuple(need.strip() for need in said.get("Depends", "").split(","))
    return Package(
        said["Version"], said["Architecture"], needs, said.get("Doord-State-Format", ""),
        int(said.get("Installed-Size", "0")),
    )  # fmt: skip


def fits(package: Package) -> None:
    """Raises Refused: another architecture, another Python, or a Debian package is missing."""
    arch = run("dpkg", "--print-architecture").stdout.strip()
    if package.arch != arch:
        raise Refused(f"expected a package for {arch}, got one for {package.arch}")
    if not _has(package.python):
        here = ", ".join(sorted(path.name for path in Path("/usr/bin").glob("python3.[0-9]*[0-9]"))) or "none"
        raise Refused(f"the package is for {package.python}, this machine has {here}: take the one for that")
    missing = [need for need in package.depends if not _has(need)]
    if missing:
        raise Refused(f"the system lacks {', '.join(missing)}: apt-get install {missing[0].split()[0]}")


def _has(need: str) -> bool:
    """Whether a dependency, `name` or `name (>= version)`, is there."""
    name, _, bound = need.partition(" ")
    done = run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name)
    state, _, version = done.stdout.partition(" ")
    wanted = bound.strip("(>=) ")
    return state == "installed" and (not wanted or compares(version, "ge", wanted))


def compares(one: str, how: str, other: str) -> bool:
    """Whether Debian's order of versions has it so: `lt`, `ge`."""
    return run("dpkg", "--compare-versions", one, how, other).returncode == 0


def repack(into: Path, tree: Path) -> None:
    """Make a package of what is installed: what was tested here goes back, and no copy takes room till then.

    Raises Refused: dpkg does not tell what is installed, or the disk refuses.
    """
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "DEBIAN").mkdir(parents=True)
    status = run("dpkg-query", "--status", "doord").stdout.splitlines()
    control = [line for line in status if not line.startswith(("Status:", "Conffiles:"))]
    (tree / "DEBIAN/control").write_text("\n".join(control) + "\n")
    for script in run("dpkg-query", "--control-path", "doord").stdout.split():
        shutil.copy(script, tree / "DEBIAN" / Path(script).suffix[1:])
    names = [name for name in run("dpkg-query", "--listfiles", "doord").stdout.splitlines() if name != "/."]
    for name in names:
        # a system without documents (path-exclude= of dpkg.cfg) has not all that is listed
        if os.path.lexists(name) and not Path(name).is_dir():
            (tree / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, tree / name[1:], follow_symlinks=False)
    done = run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", str(tree), str(into))
    shutil.rmtree(tree)
    if done.returncode:
        raise Refused(f"the installed version can't be kept: {done.stderr.strip()}")
