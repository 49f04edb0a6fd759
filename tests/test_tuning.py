"""What a door learns from its own camera, on recordings whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from tuned_data import CROPS, SIZE, door, recording

from edge.identity.tuning import Recording, Tuning, fit, tune
from edge.shares import Share

LIVE = 2.0  # the texture layer's limit: at texture 0 it refuses everybody and lets no attack in


def test_people_whom_the_texture_layer_refuses_pass_once_tuned_and_attacks_do_not():
    found = tune(door(), 3, LIVE)
    assert isinstance(found, Tuning)
    assert found.people == 4
    assert found.genuine.attempts == Share(0, 12)
    assert found.genuine.presentations == Share(0, 4)
    assert found.genuine.untuned == Share(12, 12)
    assert {(row.name, row.attempts, row.untuned) for row in found.species} == {
        ("phone", Share(0, 12), Share(0, 12)),
        ("print", Share(0, 12), Share(0, 12)),
    }
    stranger = [recording("z", kind) for kind in (None, "phone")]
    alive, attack = (float(found.model(own.features[:3]).mean()) for own in stranger)
    assert alive >= found.limit.live >= found.limit.unsure > attack


def test_the_worst_species_stands_first():
    data = door(texture=3.0)  # untuned lets everything in
    data += [recording(who, "mask", alive=2.0, texture=3.0) for who in "abcd"]  # nothing tells it from skin
    found = tune(data, 3, LIVE)
    assert isinstance(found, Tuning)
    assert found.species[0].name == "mask"
    assert found.species[0].attempts.count > 0


@pytest.mark.parametrize("seed", range(8))
def test_of_no_species_more_attacks_pass_than_untuned(seed):
    random = np.random.default_rng(seed)
    data = [
        recording(who, kind, seed=seed, alive=random.normal(0.5 if kind is None else -0.5, 1), texture=2.0)
        for kind in (None, "phone", "print", "tablet")
        for who in "abcdef"
    ]
    found = tune(data, 3, LIVE)
    if isinstance(found, Tuning):
        assert all(row.attempts.count <= row.untuned.count for row in found.species)


def test_figures_are_of_people_left_out_of_the_fit():
    """Who is told apart only by what his own recordings taught is not told apart."""
    data = []
    for i, who in enumerate("abcd"):
        sign = 6.0 if i % 2 else -6.0  # alive it points the other way for every second person
        data += [recording(who, None, alive=0.0, person_sign=sign, texture=2.0)]
        data += [
            recording(who, kind, alive=0.0, person_sign=-sign, texture=2.0) for kind in ("phone", "print")
        ]
    found = tune(data, 3, LIVE)
    assert isinstance(found, str) or found.genuine.attempts.rate > 0.4


def test_the_same_recordings_give_the_same_model():
    one, two = fit(door()), fit(door())
    assert (one.weights == two.weights).all()
    assert one.bias == two.bias


def test_a_feature_that_never_varies_says_nothing():
    data = [Recording(o.person, o.species, np.pad(o.features, ((0, 0), (1, 0))), CROPS) for o in door()]
    assert fit(data).weights[0] == 0
    assert fit(data).weights.shape == (SIZE + 1,)


def test_a_long_recording_weighs_no_more_than_a_short_one():
    even, long = door(), [o if o.person != "a" or o.species else recording("a", frames=90) for o in door()]
    one, two = fit(even), fit(long)
    cosine = one.weights @ two.weights / np.linalg.norm(one.weights) / np.linalg.norm(two.weights)
    assert cosine > 0.9


GENUINE = [recording(who) for who in "abcd"]
PHONE = [recording(who, "phone") for who in "abcd"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "genuine recordings of at least 2 people, got 0"),
        ([recording("a"), *PHONE], "genuine recordings of at least 2 people, got 1"),
        (GENUINE, "expected attacks"),
        ([*GENUINE, recording("a", "phone"), recording("a", "phone", seed=1)], "show at least 2 people"),
        ([*GENUINE, recording("e", frames=5), *PHONE], "e: expected at least 6 genuine frames"),
        ([recording(w, frames=6) for w in "ab"] + PHONE, "at least 18 genuine frames in all, got about 12"),
        ([*GENUINE, *PHONE, recording("a", "print")], "print: expected at least 2 presentations, got 1"),
        ([*GENUINE, *PHONE, recording("a", "print", 2)], "print: expected at least 2 presentations, got 0"),
        (
            [
                recording(w, k, alive=0.0, texture=2.9 if k is None else -2)
                for k in (None, "phone")
                for w in "abcd"
            ],
            "no better than the untuned",
        ),
    ],
)
def test_what_the_data_does_not_support_is_refused_with_what_is_missing(data, words):
    said = tune(data, 3, LIVE)
    assert isinstance(said, str)
    assert words in said
    assert "\n" not in said
