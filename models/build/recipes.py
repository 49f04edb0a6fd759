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
# of each the float16 file's sha256: a rebuild must come out the same
TO_FLOAT16 = {
    "blazeface_short.tflite": "067dfcbea2a020edd8e5fa0906de78981e694d91d44aba360e52d7a6f34b2f50",
    "blazeface_full.tflite": "7a31915ab81f4d20af08e87c77ded00e49866d4b4b91ceb2b3852d448f699573",
    "facenet.tflite": "7fc99065c7b58f2ac99c198ef5c7c5a2030d428136739e46da06f5cfc1b9bb2c",
}
TO_SHIPPED = {
    "blazeface_short.tflite": _blazeface_short,
    "blazeface_full.tflite": _blazeface_full,
    "facenet.tflite": _facenet,
    "minifasnet_se.tflite": _minifasnet,  # float: the card says why
}
