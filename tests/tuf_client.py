"""A TUF client over a folder, as any would read the tree: python-tuf's own Updater."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface


class FolderFetcher(FetcherInterface):
    """Reads `metadata/…` and `targets/…` below a folder; notes how many bytes of what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.got: dict[str, int] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / url
        if not path.is_file():
            raise DownloadHTTPError(f"{url} is not there", 404)
        data = path.read_bytes()
        self.got[url] = len(data)
        return iter([data])


class Client:
    """A door's view: trusts `root`, keeps its metadata and targets below `folder`."""

    def __init__(self, folder: Path, tree: Path, root: bytes) -> None:
        self.folder, self.tree, self.root = folder, tree, root
        (folder / "metadata").mkdir(parents=True, exist_ok=True)
        (folder / "targets").mkdir(exist_ok=True)

    def update(self, now_utc: datetime | None = None) -> dict[str, bytes]:
        """All targets of the newest version, by name."""
        self.fetcher = FolderFetcher(self.tree)
        updater = Updater(
            str(self.folder / "metadata"),
            "metadata/",
            target_dir=str(self.folder / "targets"),
            target_base_url="targets/",
            fetcher=self.fetcher,
            bootstrap=self.root,
        )
        if now_utc is not None:
            updater._trusted_set.reference_time = now_utc
        updater.refresh()
        assert updater.get_targetinfo("people/manifest")  # walks to the delegated roles
        assert updater.get_targetinfo("rights/site")
        trusted = updater._trusted_set
        names = [name for role in ("targets", "people", "rights") for name in trusted[role].targets]
        found = {}
        for name in names:
            info = updater.get_targetinfo(name)
            assert info is not None, name
            path = updater.find_cached_target(info) or updater.download_target(info)
            found[name] = Path(path).read_bytes()
        self.version = trusted.snapshot.version
        return found
