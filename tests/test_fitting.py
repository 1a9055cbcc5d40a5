"""The widest network that fits."""

import pytest

from models import MODELS
from models.cost import model_cost
from training.export.untrained import arena_sizes
from training.fitting import STEPS, Limits, _settings, built, widest


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("late", [False, True])
def test_it_keeps_to_its_limits_and_nothing_wider_does(name, late):
    limits = Limits(macs=3_000_000, parameters=9_000)
    found = widest(name, limits, late_upsampling=late)
    steps = [
        _settings(name, step, (60, 80), 1.0) | {"late_upsampling": late}
        for step in range(1, 3 * STEPS)
    ]
    last = max(number for number, settings in enumerate(steps) if settings == found.settings)
    for settings, fits in ((steps[last], True), (steps[last + 1], False)):
        cost = model_cost(built(settings))
        keeps = cost.macs <= limits.macs and cost.parameters <= limits.parameters
        assert keeps == fits
        assert not fits or (found.macs, found.parameters) == (cost.macs, cost.parameters)


def test_the_arena_is_that_of_the_file():
    pytest.importorskip("tflite_micro")
    limits = Limits(arena=16_000, plan="overlap")
    found = widest("nano_u", limits, size=(24, 32))
    options = {k: v for k, v in found.settings.items() if k not in ("name", "input_size")}
    exact = arena_sizes(MODELS["nano_u"]((24, 32, 3), **options)).overlap
    assert found.arena == exact <= limits.arena
    assert exact > 0.8 * limits.arena


def test_limits_that_cannot_be_kept():
    with pytest.raises(ValueError, match="the narrowest nano_u keeps to"):
        widest("nano_u", Limits(macs=1000))
    with pytest.raises(ValueError, match="Expected a limit of the arena"):
        widest("nano_u", Limits())
