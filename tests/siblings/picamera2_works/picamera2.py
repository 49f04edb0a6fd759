"""What the siblings of picamera2 share: its calls as doord's child makes them, in their order."""

import time

import numpy as np


class Request:
    """A completed request."""

    def __init__(self, camera, number):
        self._camera, self._number = camera, number

    def get_metadata(self):
        return {"SensorTimestamp": self._camera.began_ns + self._number * self._camera.step_ns}

    def make_array(self, name):
        assert name == "main"
        width, height = self._camera.size
        return np.full((height, width, 3), (10, 20, 30), np.uint8)

    def release(self):
        self._camera.held -= 1


class Picamera2:
    """picamera2.Picamera2: two cameras; frames of one colour at the configured rate."""

    cameras = 2

    @classmethod
    def global_camera_info(cls):
        return [{"Num": number, "Model": "imx708"} for number in range(cls.cameras)]

    def __init__(self, camera_num=0):
        assert 0 <= camera_num < self.cameras
        self.held = 0
        self.number = 0

    def create_video_configuration(self, main, controls):
        assert main["format"] == "BGR888"
        return {"size": main["size"], "fps": controls["FrameRate"]}

    def configure(self, configuration):
        self.size, self.step_ns = configuration["size"], int(1e9 / configuration["fps"])

    def start(self):
        self.began_ns = time.monotonic_ns() - 10**7

    def capture_request(self):
        assert self.held == 0, "libcamera has no buffer left: a request was not released"
        self.held += 1
        self.number += 1
        time.sleep(self.step_ns / 1e9)
        return Request(self, self.number)
