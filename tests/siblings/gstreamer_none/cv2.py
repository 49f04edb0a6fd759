"""An OpenCV with GStreamer whose pipeline has an element that is not installed."""

__version__ = "4.8.0"
CAP_GSTREAMER = 1800


def getBuildInformation():  # noqa: N802  # OpenCV's name
    return "    GStreamer:                   YES (1.20.3)\n"


class VideoCapture:
    """A pipeline that does not play."""

    def __init__(self, _pipeline, _backend):
        pass

    def isOpened(self):  # noqa: N802  # OpenCV's name
        return False
