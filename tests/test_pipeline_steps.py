"""What a pipeline is to do, checked before anything is trained."""

import pytest

from train import main
from training.config import read_config
from training.pipeline_steps import checked_steps, with_teacher
from training.sections import NarrowConfig

PIPELINE = {"pipeline": {"teacher": "nano_u"}}
BUDGET = {**PIPELINE, "narrow": {"macs": "1.2M"}}


def steps(values, **overrides):
    chosen = {**values, **overrides}
    return checked_steps(read_config(None, chosen, for_pipeline=True), overrides)


def test_without_a_budget_nothing_is_narrowed():
    assert list(steps(PIPELINE)) == ["teacher", "student"]


def test_the_teacher_is_narrowed_with_its_own_settings():
    found = steps(BUDGET, training={"epochs": 7, "seed": 3, "quantization_aware": True})
    assert list(found) == ["teacher", "student", "student_aware", "narrowed"]
    assert found["student"].narrow == found["student_aware"].narrow == NarrowConfig()
    teacher, narrowed = found["teacher"], found["narrowed"]
    assert (narrowed.model, narrowed.data, narrowed.nas) == (
        teacher.model,
        teacher.data,
        teacher.nas,
    )
    assert narrowed.training.epochs == 7
    assert not narrowed.training.quantization_aware
    assert narrowed.narrow.macs == 1_200_000 and narrowed.export.format == "int8"


def test_epochs_of_training_on():
    assert steps(BUDGET)["narrowed"].training.epochs == 15
    values = {**BUDGET, "pipeline": {"teacher": "nano_u", "narrow_epochs": 4}}
    assert steps(values)["narrowed"].training.epochs == 4
    assert steps(values, training={"epochs": 2})["narrowed"].training.epochs == 2


@pytest.mark.parametrize("teaches", [False, True])
def test_paths_to_the_teacher(teaches):
    narrow = {**BUDGET["narrow"], "teacher": teaches}
    complete = with_teacher(steps({**BUDGET, "narrow": narrow}), "/runs/all/teacher")
    assert complete["narrowed"].narrow.parent == "/runs/all/teacher"
    taught = complete["narrowed"].distillation.teacher
    assert taught == ("/runs/all/teacher" if teaches else None)
    assert complete["student"].distillation.teacher == "/runs/all/teacher"
    assert complete["teacher"].distillation.teacher is None


@pytest.mark.parametrize(
    "options, words",
    [
        (["--rounds", "2"], "Narrowing needs a budget"),
        (["--macs", "900M"], "Nothing to narrow: the teacher, bu_net, keeps to the budget"),
        (["--macs", "10"], "Expected a budget of at least macs="),
        (["--macs", "2.4M", "--rounds", "16"], "narrow.rounds: expected at most 15"),
        (["--macs", "2.4M", "--multiple", "0"], "narrow.multiple: input should be greater"),
    ],
)
def test_what_cannot_be_narrowed_is_refused_before_the_teacher_is_trained(
    options, words, tmp_path, capsys
):
    folder = tmp_path / "new"
    assert main(["--pipeline", *options, "--output", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not folder.exists()
