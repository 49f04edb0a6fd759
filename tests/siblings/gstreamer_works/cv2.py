"""An OpenCV with GStreamer: what doord's child calls of it."""

import time

import numpy as np

__version__ = "4.8.0"
CAP_GSTREAMER, CAP_PROP_POS_MSEC, COLOR_BGR2RGB = 1800, 0, 4


def getBuildInformation():  # noqa: N802  # OpenCV's name
    return "  Video I/O:\n    GStreamer:                   YES (1.20.3)\n"


def cvtColor(bgr, code, dst):  # noqa: N802  # OpenCV's name
    assert code == COLOR_BGR2RGB
    dst[:] = bgr[:, :, ::-1]


class VideoCapture:
    """A pipeline that plays one colour at 50 frames a second."""

    def __init__(self, pipeline, backend):
        assert "!" in pipeline
        assert backend == CAP_GSTREAMER
        self._number = 0

    def isOpened(self):  # noqa: N802  # OpenCV's name
        return True

    def grab(self):
        time.sleep(0.02)
        self._number += 1
        return True

    def retrieve(self):
        return True, np.full((48, 64, 3), (10, 20, 30), np.uint8)

    def get(self, _property):
        return self._number * 20.0
