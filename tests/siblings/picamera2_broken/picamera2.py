class Picamera2:
    """picamera2.Picamera2 of a camera whose cable is loose."""

    @staticmethod
    def global_camera_info():
        return [{"Num": 0}]

    def __init__(self, _number):
        try:
            raise RuntimeError("Frontend has timed out")
        except RuntimeError:
            raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904  # as it does
