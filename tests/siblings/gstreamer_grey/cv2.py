"""An OpenCV with GStreamer whose pipeline ends in grey pictures."""

import numpy as np

__version__ = "4.8.0"
CAP_GSTREAMER, CAP_PROP_POS_MSEC = 1800, 0


def getBuildInformation():  # noqa: N802  # OpenCV's name
    return "    GStreamer:                   YES (1.20.3)\n"


class VideoCapture:
    """A pipeline that plays what nobody can use."""

    def __init__(self, _pipeline, _backend):
        self._number = 0

    def isOpened(self):  # noqa: N802  # OpenCV's name
        return True

    def grab(self):
        self._number += 1
        return True

    def retrieve(self):
        return True, np.zeros((48, 64), np.uint8)

    def get(self, _property):
        return self._number * 20.0
