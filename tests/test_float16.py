"""float16 weights: half the size, nearly the same answers, in whatever runs the model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")

from edge.vision.manifest import ModelShelf
from edge.vision.runtime import on_cpu
from edge.vision.selftest import known_answer, output_drift

sys.path.append(str(Path(__file__).parents[1]))  # the build is no part of the installed package
from models.build.flatbuffer import only_graph, read
from models.build.float16 import to_float16

SHELF = ModelShelf.open()
ENTRY = SHELF.entry("minifasnet-se-1", "pad")  # the one that ships in float32
WHOLE = SHELF.model_bytes(ENTRY)


def test_a_model_in_half_the_size_answers_nearly_the_same():
    half = to_float16(WHOLE)
    assert len(half) < 0.6 * len(WHOLE)
    picture, _ = known_answer(SHELF, ENTRY)
    exact, answer = on_cpu(ENTRY, WHOLE, 1)(picture)[0], on_cpu(ENTRY, half, 1)(picture)[0]
    assert 0 < output_drift(exact, answer) < 5e-3


def test_the_same_model_gives_the_same_bytes():
    assert to_float16(WHOLE) == to_float16(WHOLE)


def test_only_weights_are_halved_and_each_is_unpacked_once():
    graph, before = only_graph(read(to_float16(WHOLE))), only_graph(read(WHOLE))
    halves = [t for t in graph.tensors if t.name.endswith(b"_half")]
    assert len(graph.operators) - len(before.operators) == len(halves) > 50
    assert {len(t.shape) for t in halves} <= {2, 4}
    unpacked = [o.outputs[0] for o in graph.operators[: len(halves)]]
    assert len(set(unpacked)) == len(halves)
    assert np.all([graph.tensors[i].buffer == 0 for i in unpacked])
