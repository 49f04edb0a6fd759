"""The door's eyes: the camera, the loop that looks, presentation-attack detection; and another tune of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from edge.access import Access
from edge.config import CameraConfig, Config
from edge.errors import ConfigError, HangError
from edge.faces import Faces
from edge.identity.credentials import Evidence
from edge.identity.tuning_file import TuningFile
from edge.keys import key_of
from edge.liveness import PadSubsystem
from edge.ports import CameraSource
from edge.tuning import LocalTuner
from edge.values import Gallery
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.grabber import Grabber
from edge.vision.health import CameraHealth
from edge.vision.loop import Seen, VisionLoop
from edge.worker import Worker

_BEAT_S = 3.0  # longer than a picture takes on the slowest board
_HANG_S = 60.0  # native code that has not returned for so long never will
_YOUNG_S = 600.0  # a door that hangs after each start is not started more often than this


class Sight:
    """What the vision thread works with; from any thread."""

    def __init__(
        self,
        config: Config,
        faces: Faces,
        access: Access,
        open_source: Callable[[CameraConfig], CameraSource],
        gpu: GpuVerdicts,
        looked: Callable[[Mapping[str, float]], None],
    ) -> None:
        """`looked` is told what each stage of a frame took, ms."""
        self._config = config
        self._faces = faces
        self._access = access
        self._open_source = open_source
        self._gpu = gpu
        self._looked = looked
        self._pad_turn = threading.Lock()  # a fit and a reload: neither undoes the other
        self.pad = PadSubsystem(config, access.pad_mode, gpu)
        self.grabber = Grabber(lambda: open_source(config.camera), config.camera)
        self.loop: VisionLoop | None = None
        self._looks_since: float | None = None  # s, monotonic; None: the thread is elsewhere
        self._began = time.monotonic()

    def start(self, attend: Callable[[Seen], None]) -> list[Worker]:
        """Open the camera; who looks, and tells `attend`. Nobody: there are no models to look with."""
        if self._faces.pipeline is None:
            return []
        self.loop = VisionLoop(
            self.grabber,
            _health(self._config),
            self._faces.pipeline,
            self._searchable,
            pad=lambda pixels, face, taken_at: self.pad.check(pixels, face, taken_at),
            people=self._faces.comparable,
        )
        self.grabber.start()
        return [Worker("vision", partial(self._turn, self.loop, attend))]

    def _turn(self, loop: VisionLoop, attend: Callable[[Seen], None]) -> None:
        """One turn of the vision thread. Raises ModelError."""
        self._looks_since = time.monotonic()
        try:
            seen = loop.step()
        finally:
            self._looks_since = None
        if seen.observation is not None:
            self._looked(seen.observation.stages_ms)
        attend(seen)

    def tend(self, now: float, at_rest: bool) -> None:
        """`now`: s, monotonic. `at_rest`: the lock is locked, a second without this process harms nobody.

        Raises:
            HangError: the thread hangs in native code. It can't be ended, and has the models' lock, so
                that another thread would hang there too. Not where it waits for the disk, which keeps
                counts of failed attempts: a new process would wait there before the exit button works.
        """
        since = self._looks_since
        hangs_s = 0.0 if since is None else now - since
        if not at_rest or not hangs_s > _HANG_S:
            return
        if self._gpu.blame() or now - self._began > _YOUNG_S:
            raise HangError(f"the vision thread has not turned for {hangs_s:.0f} s: a new process looks")

    def _searchable(self) -> Gallery | None:
        """Nobody is searched for where a face alone opens nothing."""
        return self._faces.searchable() if Evidence.FACE in self._access.enough() else None

    def tuner(self, changed: Callable[[], None]) -> LocalTuner:
        """Tunes presentation-attack detection with these eyes; `changed`: another model is in force."""

        def put_in_force() -> None:
            self.tuned()
            changed()

        config, loop = self._config, self.loop
        file = TuningFile(config.tuning_path, key_of(config))
        return LocalTuner(config, file, self.pad.texture, loop.sit if loop else None, put_in_force)

    def tuned(self) -> None:
        """Put another tuned model in force."""
        with self._pad_turn:
            self.pad = PadSubsystem(self._config, self._access.pad_mode, self._gpu)

    @contextlib.contextmanager
    def adopting(self, config: Config) -> Iterator[None]:
        """Another configuration, in force when the block ends well. Raises ConfigError: none of it is."""
        before = self._config
        with self._pad_turn:
            pad = self._pad_for(config)
            yield
            self.pad, self._config = pad, config
        if config.camera != before.camera:
            self.grabber.switch(lambda: self._open_source(config.camera), config.camera)
            if self.loop is not None:
                self.loop.judge_by(_health(config))

    def _pad_for(self, config: Config) -> PadSubsystem:
        """The subsystem of a configuration. Raises ConfigError: no layer could judge, as one can now."""
        before = self._config
        # a tuned model is of one camera
        same_eyes = (config.pad, config.camera) == (before.pad, before.camera)
        if same_eyes and self.pad.problem is None:  # else its files may have been mended
            return self.pad
        pad = PadSubsystem(config, self._access.pad_mode, self._gpu)
        if pad.problem is not None and self.pad.problem is None:
            raise ConfigError(f"pad: {pad.problem}")
        return pad

    def why_not(self, now: float, fault: str | None, seen: bool) -> list[str]:
        """What keeps these eyes from seeing; `fault`: the camera's; `seen`: whether a frame was looked at."""
        camera = self._camera_problem(fault, seen)
        problems = [f"camera: {camera}"] if camera else []
        if self.loop is not None and now - self.loop.beat > _BEAT_S:
            problems.append("the vision thread does not turn")
        return problems

    def _camera_problem(self, fault: str | None, seen: bool) -> str | None:
        if self.grabber.ended:
            return "the clip has ended"
        if fault is not None:
            return self.grabber.problem or fault
        return None if seen else "no frame yet"


def _health(config: Config) -> CameraHealth:
    return CameraHealth(config.camera, live=not config.simulation)
