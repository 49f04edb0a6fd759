"""What GPUs Vulkan knows here; run as a child process, for a driver may take its process with it.

    python -m edge.vision.vulkan     # one JSON object

Standard library only, so that it starts quickly. LiteRT's GPU accelerator (Dawn) refuses a device without
the four features of `_NEEDED`, and takes a rasteriser that runs on the CPU for a GPU.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

_KINDS = ("other", "integrated", "discrete", "virtual", "cpu")  # VkPhysicalDeviceType
_APPLICATION, _INSTANCE = 0, 1  # VkStructureType
_VERSION_1_1 = 1 << 22 | 1 << 12
_NEEDED = {  # place in VkPhysicalDeviceFeatures
    33: "shaderUniformBufferArrayDynamicIndexing",
    34: "shaderSampledImageArrayDynamicIndexing",
    35: "shaderStorageBufferArrayDynamicIndexing",
    36: "shaderStorageImageArrayDynamicIndexing",
}
_MOST = 16
_DEADLINE_S = 10


class _Application(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("next", ctypes.c_void_p), ("name", ctypes.c_char_p),
        ("version", ctypes.c_uint32), ("engine", ctypes.c_char_p), ("engine_version", ctypes.c_uint32),
        ("api_version", ctypes.c_uint32),
    )  # fmt: skip


class _InstanceInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("next", ctypes.c_void_p), ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_Application)), ("layers", ctypes.c_uint32),
        ("layer_names", ctypes.c_void_p), ("extensions", ctypes.c_uint32),
        ("extension_names", ctypes.c_void_p),
    )  # fmt: skip


class _Properties(ctypes.Structure):
    """The beginning of VkPhysicalDeviceProperties, and room for the rest of it."""

    _fields_ = (
        ("api_version", ctypes.c_uint32), ("driver_version", ctypes.c_uint32),
        ("vendor", ctypes.c_uint32), ("device", ctypes.c_uint32), ("kind", ctypes.c_uint32),
        ("name", ctypes.c_char * 256), ("rest", ctypes.c_byte * 2048),
    )  # fmt: skip


def devices() -> list[dict[str, Any]]:
    """Name, kind, driver version and lacking features of each. Raises OSError: Vulkan can't be used."""
    vulkan = ctypes.CDLL("libvulkan.so.1")
    about = _Application(_APPLICATION, None, b"doord", 1, b"doord", 1, _VERSION_1_1)
    info = _InstanceInfo(_INSTANCE, None, 0, ctypes.pointer(about), 0, None, 0, None)
    instance = ctypes.c_void_p()
    result = vulkan.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance))
    if result != 0:
        raise OSError(f"vkCreateInstance: VkResult {result}")
    count, found = ctypes.c_uint32(_MOST), (ctypes.c_void_p * _MOST)()
    result = vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), found)
    if result < 0:
        raise OSError(f"vkEnumeratePhysicalDevices: VkResult {result}")
    return [_describe(vulkan, ctypes.c_void_p(found[i])) for i in range(count.value)]


def _describe(vulkan: ctypes.CDLL, device: ctypes.c_void_p) -> dict[str, Any]:
    properties, features = _Properties(), (ctypes.c_uint32 * 256)()
    vulkan.vkGetPhysicalDeviceProperties(device, ctypes.byref(properties))
    vulkan.vkGetPhysicalDeviceFeatures(device, ctypes.byref(features))
    return {
        "name": properties.name.decode("utf-8", "replace"),
        "kind": _KINDS[properties.kind] if properties.kind < len(_KINDS) else "other",
        "driver_version": f"{properties.driver_version:#x}",
        "lacking": [name for place, name in _NEEDED.items() if not features[place]],
    }


def main() -> int:
    """The child."""
    signal.alarm(_DEADLINE_S)  # whoever asked may be gone
    out = os.dup(1)
    os.dup2(2, 1)  # a driver may talk on stdout
    answer: dict[str, Any] = {"devices": [], "fault": ""}
    try:
        answer["devices"] = devices()
    except (OSError, AttributeError) as error:
        answer["fault"] = str(error)
    os.write(out, json.dumps(answer).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
