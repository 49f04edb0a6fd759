"""What a Debian package has beside its files: control, changelog, copyright."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from datetime import datetime, timezone
from email.parser import HeaderParser
from email.utils import format_datetime
from pathlib import Path

from targets import GLIBC, ROOT, Target

STATE_FORMAT = 2  # of all files in /var/lib/doord together; tests/test_package.py says when to raise it
MAINTAINER = "doord <doord@localhost>"
_PACKAGES = {  # what wheels link to beside each other, and who has it
    "libc.so.6": f"libc6 (>= {GLIBC})",
    "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
}
_OF_LIBC = re.compile(r"(libm|libdl|librt|libpthread|libutil|ld-linux-.*)\.so\.[0-9]+")


def control(target: Target, version: str, depends: list[str], size_kib: int) -> str:
    """The control file."""
    return f"""\
Package: doord
Version: {version}
Architecture: {target.debian_arch}
Maintainer: {MAINTAINER}
Installed-Size: {size_kib}
Depends: {", ".join(depends)}
Section: misc
Priority: optional
Doord-State-Format: {STATE_FORMAT}
Description: firmware service of an office door unit that opens by face
 A camera sees a face, a quantized FaceNet on the board says whose it is, the
 relay releases the strike, and the event goes out over MQTT. It decides on the
 device: no network, broker or clock is needed to open for an enrolled face.
 .
 This package is for {target.words.split(" on ")[0]} only and brings the Python packages it
 was tested with, in /usr/lib/doord/site-packages.
"""


def depends(target: Target, site: Path) -> list[str]:
    """The packages needed, of Debian and its children: the interpreter, and what the wheels link to.

    Raises LookupError: a library that neither a wheel nor a package of the table has.
    """
    needed = {_package_of(library) for library in _linked(site)} - {""}
    return [f"python{target.python}", "systemd (>= 249)", *sorted(needed)]


def _package_of(library: str) -> str:
    if _OF_LIBC.fullmatch(library):
        return ""
    try:
        return _PACKAGES[library]
    except KeyError:
        raise LookupError(f"{library}: a wheel links to it, expected one of {', '.join(_PACKAGES)}") from None


def _linked(site: Path) -> set[str]:
    """The sonames that libraries below `site` ask for and do not bring along."""
    libraries = [path for path in site.rglob("*.so*") if path.is_file() and not _is_plug_in(path)]
    found: set[str] = set()
    for library in libraries:
        done = subprocess.run(["readelf", "--dynamic", "--wide", library], capture_output=True, text=True,
                              check=True, timeout=60)  # fmt: skip
        found |= set(re.findall(r"\(NEEDED\).*\[(.+)\]", done.stdout))
    return found - {library.name for library in libraries}


def _is_plug_in(path: Path) -> bool:
    """LiteRT's plug-ins for makers' chips, never loaded: they ask for libraries nobody has."""
    return "vendors" in path.parts


def changelog(version: str, epoch: int) -> bytes:
    """Debian's changelog, compressed: one entry that leads to ours."""
    day = format_datetime(datetime.fromtimestamp(epoch, timezone.utc))
    text = (
        f"doord ({version}) stable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- {MAINTAINER}  {day}\n"
    )
    return compressed(text.encode())


def compressed(data: bytes) -> bytes:
    """gzip, without a time, as small as it gets."""
    return gzip.compress(data, 9, mtime=0)


def copyright_file(site: Path) -> str:
    """Whose each part is and under what licence; the texts lie beside each part."""
    own = (ROOT / "models" / "LICENSES").iterdir()
    text = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: doord",
        "Comment: the Python packages are as their authors built them; the texts of their licences lie",
        " below /usr/lib/doord/site-packages, where each paragraph says.",
        "",
        "Files: *\nCopyright: the authors of doord\nLicense: Apache-2.0\n",
        "Files: usr/lib/doord/site-packages/edge/models/*\nCopyright: see the texts\nLicense: models",
        *(f" usr/lib/doord/site-packages/edge/models/LICENSES/{path.name}" for path in sorted(own)),
        "",
    ]
    text += [
        _paragraph(info) for info in sorted(site.glob("*.dist-info")) if not info.name.startswith("doord-")
    ]
    text += [
        "License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n"
    ]
    return "\n".join(text)


def _paragraph(info: Path) -> str:
    head = HeaderParser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
    name = info.name.removesuffix(".dist-info")
    licence = head["License-Expression"] or head["License"] or "see the text"
    author = (
        head["Author"] or head["Author-email"] or head["Maintainer-email"] or f"the authors of {head['Name']}"
    )
    texts = [
        path for path in sorted(info.rglob("*")) if re.search("licen[cs]e|copying|notice", path.name, re.I)
    ]
    shown = [
        f" usr/lib/doord/site-packages/{path.relative_to(info.parent)}" for path in texts if path.is_file()
    ]
    shown = shown or [" The wheel has no text of its own."]
    short = re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{name} {licence.splitlines()[0]}").strip("-")
    return "\n".join(
        [f"Files: usr/lib/doord/site-packages/{name}.dist-info/*", f"Copyright: {_one_line(author)}",
         f"Comment: {head['Name']} {head['Version']}: {_one_line(licence)}", f"License: {short}", *shown, ""]
    )  # fmt: skip


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def md5sums(root: Path) -> str:
    """For `dpkg --verify`."""
    files = sorted(os.fspath(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    files = [name for name in files if not name.startswith("DEBIAN/")]
    return subprocess.run(["md5sum", *files], cwd=root, capture_output=True, text=True, check=True,
                          timeout=600).stdout  # fmt: skip
