class Picamera2:
    """picamera2.Picamera2 where no camera is connected."""

    @staticmethod
    def global_camera_info():
        return []
