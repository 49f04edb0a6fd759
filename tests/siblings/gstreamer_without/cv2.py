"""An OpenCV without GStreamer, as every wheel is."""

__version__ = "4.6.0"


def getBuildInformation():  # noqa: N802  # OpenCV's name
    return "  Video I/O:\n    GStreamer:                   NO\n"
