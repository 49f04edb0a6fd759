"""picamera2 with two cameras: another process has the first, the cable of the second is loose."""

REASONS = ("Failed to acquire camera: Device or resource busy", "Frontend has timed out")


class Picamera2:
    """picamera2.Picamera2 of one that refuses: two exceptions, the reason in the first."""

    @staticmethod
    def global_camera_info():
        return [{"Num": number} for number in range(len(REASONS))]

    def __init__(self, number):
        try:
            raise RuntimeError(REASONS[number])
        except RuntimeError:
            raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904  # as it does
