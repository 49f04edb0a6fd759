"""What many tests share: the pictures, and the real models loaded once."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest
from fakes_gpiod import gpiod as gpiod
from hypothesis import settings

from edge.config import ModelsConfig, QualityConfig
from edge.vision.pictures import load_picture
from edge.vision.pipeline import Pipeline

# a busy machine is no fault of what is tested
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# pytest --hypothesis-profile thorough: every decoder is fed that often; a minute or more each
settings.register_profile("thorough", max_examples=100_000, deadline=None)

PICTURES = Path(__file__).parent / "pictures"

# a shell that runs this in the background has the interrupt ignored, and every child would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = ("daemon", "soak", "store", "card_door", "joined_door", "camera_campaign", "orders", "reload")
"""Files that take longest, by `--durations`: begun last, one would keep every other worker waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, else as they came; for `--dist loadfile --no-loadscope-reorder`."""
    rank = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Whoever starts the log as the daemon does leaves it as it was to the next test."""
    logger = logging.getLogger("edge")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    """The shipped models on the default runtime."""
    return Pipeline.load(ModelsConfig(), QualityConfig())


@pytest.fixture(scope="session")
def picture():
    """picture("obama.jpg"): (H, W, 3) RGB."""
    return lambda name: load_picture(PICTURES / name)


if not (Path(__file__).parent.parent / "deploy" / "pad_attacks.py").exists():
    # the tests alone, as on an emulated board; what wears a door out would take hours there
    of_the_repository = ("float16", "model_sources", "pad_attacks", "pad_tune", "translate")
    endurance = ("camera_campaign", "event_kills", "soak", "tflite_runtime")
    collect_ignore = [f"test_{name}.py" for name in of_the_repository + endurance]
