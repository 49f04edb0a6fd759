"""How each shipped file comes about from its source: one function a file, in building order."""

from __future__ import annotations

from models.build import calibrate
from models.build.equalise import equalise
from models.build.exact_weights import restore_weights
from models.build.flatbuffer import fold_blazeface, repair_facenet
from models.build.quantize import (
    quantize_blazeface_full,
    quantize_blazeface_short,
    quantize_facenet,
)
from models.build.translate import translate


def _blazeface_short(source: bytes) -> bytes:
    return quantize_blazeface_short(equalise(fold_blazeface(source)))


def _blazeface_full(source: bytes) -> bytes:
    return quantize_blazeface_full(equalise(fold_blazeface(source)))


def _facenet(source: bytes) -> bytes:
    return restore_weights(quantize_facenet(repair_facenet(source), calibrate.load()), source)


def _minifasnet(source: bytes) -> bytes:
    return translate(source, "logits")


CALIBRATED = "facenet.tflite"  # the one file that needs ranges

TO_FLOAT = {
    "blazeface_short.tflite": fold_blazeface,
    "blazeface_full.tflite": fold_blazeface,
    "facenet.tflite": repair_facenet,
    "minifasnet_se.tflite": _minifasnet,
}
TO_SHIPPED = {
    "blazeface_short.tflite": _blazeface_short,
    "blazeface_full.tflite": _blazeface_full,
    "facenet.tflite": _facenet,
    "minifasnet_se.tflite": _minifasnet,  # float: the card says why
}
