class Picamera2:
    """picamera2.Picamera2 while another process has the camera: two exceptions, the reason in the first."""

    @staticmethod
    def global_camera_info():
        return [{"Num": 0}]

    def __init__(self, _number):
        try:
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        except RuntimeError:
            raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904  # as it does
