"""The report and the comparison, read as a parser and a user would."""

import html.parser
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from synthetic_run import record, run, snapshot, two_rungs

from monitoring.__main__ import main
from monitoring.analysis.advice import Cost, WidthAdvice
from monitoring.analysis.comparison import Comparison, compare_runs, differences
from monitoring.records.reading import read_run
from monitoring.report.comparison_page import write_comparison
from monitoring.report.run_page import render
from train import train


class Page(html.parser.HTMLParser):
    """What a page holds: tags, ids, links and text."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.sources, self.open, self.words = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.sources += [v for k, v in attrs if k in ("src", "href", "action") and tag != "a"]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(text: str) -> Page:
    """Returns the page, checked: closed, its links inside it, nothing from outside."""
    found = Page(text)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert all(source.startswith("data:") for source in found.sources)
    return found


def test_a_report_says_what_to_do_first(tmp_path):
    records = {"probe_encoder_1": [record(epoch=epoch) for epoch in (-1, 0, 1)]}
    advice = [WidthAdvice("probe_encoder_1", 8, 4, 4, 4, "3.2 channels in use (3.1 to 3.4)")]
    text = render(
        run(
            tmp_path,
            records,
            evaluation={"miou": 0.9, "training_seconds": 50.0, "monitoring_seconds": 0.5},
        ),
        {"probe_encoder_1": snapshot()},
        advice,
        costs=(Cost(100, 2000, 30), Cost(80, 1000, 30)),
        ladder=two_rungs(),
    )
    said = page(text).text
    assert said.index("narrow it from 8 to 4 channels") < said.rindex("The numbers")
    assert "multiply-adds per image 2,000 1,000 -50 %" in said
    assert "75 % 7,500 750 275 0.8950 0.50 0.8500 0.01" in said
    assert "encoder_1 16 5.0 12 8" in said and "pointwise 16 12 8" in said
    assert "Dead : 3." in said and "5 (mirrored as 2)" in said
    assert "Monitoring took 0.5 of 50 seconds of training, 1.0 %." in said


def test_hostile_names_stay_text(tmp_path):
    name = "<img src=x onerror=alert(1)>/'\"&"
    text = render(
        run(tmp_path / name, {name: [record(name, verdict="<b>no</b>")]}, notes=("<i>",)),
        {name: snapshot(name)},
        [WidthAdvice(name, 8, 8, 8, 8, "<script>")],
    )
    assert name.split("/")[0] in Page(text).text
    assert "<img" not in text and "<b>" not in text and "<i>" not in text
    assert text.count("<script>") == 1


def test_a_run_of_one_measurement_and_no_arrays(tmp_path):
    text = render(run(tmp_path, {"a": [record("a", effective_rank=float("nan"))]}), {}, [])
    assert "Its arrays were not kept." in page(text).text
    assert "nan" not in page(text).text


def test_batch_cadence_is_drawn_over_steps(tmp_path):
    steps = [record(step=step) for step in (5, 10, 15)]
    assert "optimizer steps" in render(run(tmp_path, {"a": steps}), {}, [])


def test_measurements_of_one_optimizer_step_are_drawn_at_their_global_step(tmp_path):
    records = [record(step=0, global_step=place) for place in (0, 70, 210)]
    text = render(run(tmp_path, {"a": records}), {}, [])
    assert ">global_step<" in text and "optimizer steps" not in text
    (points, _) = re.findall(r'class="line c0" points="([^"]*)"', text)
    first, second, third = (float(pair.split(",")[0]) for pair in points.split())
    assert first < second
    assert second - first == pytest.approx((third - first) / 3, abs=0.2)


def test_a_long_run_with_many_probes_stays_small(tmp_path, rng):
    names = [f"probe_encoder_{n}" for n in range(10)]
    records = {name: [record(name, epoch, 64) for epoch in range(-1, 100)] for name in names}
    snapshots = {}
    for name in names:
        noise = np.corrcoef(rng.normal(size=(64, 500)))
        snapshots[name] = replace(snapshot(name, 64), correlation=noise)
    text = render(run(tmp_path, records), snapshots, [])
    page(text)
    assert len(text.encode()) < 2**20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two small runs of train.py on the drawn scenes."""
    folders = []
    for width in (4, 8):
        folder = tmp_path_factory.mktemp("runs") / f"width-{width}"
        file = folder.with_suffix(".yaml")
        file.write_text(f"model: {{name: nano_u, filters: [{width}, 8, 16]}}\n")
        train(None, 1, config=file, output=folder, enable_nas_monitoring=True, verbose=0)
        folders.append(folder)
    return folders


def test_training_leaves_a_report(trained):
    for folder in trained:
        said = page((folder / "report.html").read_text(encoding="utf-8")).text
        assert "What to do" in said and "after 1 measurement:" in said
        assert "test mIoU 0." in said and "Monitoring took" in said


@pytest.mark.slow
def test_advise_and_report_from_the_command_line(trained, capsys):
    folder = str(trained[1])
    assert main(["advise", folder, "--multiple", "2"]) == 0
    said = capsys.readouterr().out
    assert f"python -m monitoring advise {folder} --cut" in said and "advised.yaml" in said
    found = json.loads((trained[1] / "advice.json").read_text())
    assert found["widths"].keys() == read_run(folder).records.keys()
    assert found["advised"]["filters"] == [found["widths"][f"probe_encoder_{n}"] for n in (1, 2, 3)]
    assert found["advised"]["macs"] <= found["now"]["macs"]
    assert main(["report", folder]) == 0
    assert "Not measured yet" in page((trained[1] / "report.html").read_text()).text
    # What it advises can be trained as it is.
    model, _ = train(
        None, 1, config=trained[1] / "advised.yaml", output=trained[1] / "again", verbose=0
    )
    assert model.count_params() == found["advised"]["parameters"]


@pytest.mark.slow
def test_advice_under_a_budget(trained, capsys):
    assert main(["advise", str(trained[1]), "--macs", "1600000"]) == 0
    said = capsys.readouterr().out
    assert "Considered under the budget" in said and "over" in said
    found = json.loads((trained[1] / "advice.json").read_text())
    assert found["advised"]["macs"] <= 1_600_000
    narrowed = {
        o["probe"]: o["suggested"] for o in found["advice"] if o["suggested"] < o["channels"]
    }
    assert narrowed.items() <= found["widths"].items()
    assert main(["compare", str(trained[1])]) == 2
    assert main(["advise", str(trained[1]), "--parameters", "10"]) == 2
    said = capsys.readouterr().err
    assert "No network fits: the narrowest" in said and "two runs or more" in said


def test_runs_are_compared_in_a_table_and_a_page(trained, tmp_path, capsys):
    target = tmp_path / "both.html"
    assert main(["compare", *map(str, trained), "--output", str(target)]) == 0
    said = capsys.readouterr().out
    assert "width-4  (nano_u, seed 0, drawn scenes)" in said and "4,212 parameters" in said
    assert "cannot" not in said
    assert "width-8 nano_u 0 0." in page(target.read_text(encoding="utf-8")).text


def test_runs_of_other_data_are_said_not_to_compare(trained, tmp_path):
    runs = compare_runs(trained).runs
    other = [runs[0], replace(runs[1], data="elsewhere", size=(30, 40))]
    (difference,) = differences(other)
    assert difference == (
        "width-8 cannot be compared with width-4: other data (elsewhere, not drawn scenes) and "
        "another input size (30x40, not 60x80)"
    )
    write_comparison(Comparison(other, [difference]), tmp_path / "page.html")
    text = page((tmp_path / "page.html").read_text()).text
    assert difference in text and "Scores over costs" not in text


def test_scores_are_drawn_over_costs_with_seeds_joined(trained, tmp_path):
    first, second = compare_runs(trained).runs
    runs = [
        replace(first, miou=0.8, arena=50_000),
        replace(first, name="again", seed=1, miou=0.9, arena=50_000),
        replace(second, miou=0.7, arena=None),
        replace(second, name="unfinished", miou=math.nan),
    ]
    write_comparison(Comparison(runs, []), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Scores over costs" in page(text).text
    assert "Test mIoU over multiply-adds per image, millions" in text
    assert "Test mIoU over arena" not in text  # one network has an arena
    assert "width-4, again: 0.8500 ± 0.0500, 2 seeds" in text and "unfinished: " not in text


@pytest.mark.parametrize("command", ["advise", "report", "compare"])
def test_what_is_no_run_is_one_line(command, tmp_path, capsys):
    assert main([command, str(tmp_path / "none")]) == 2
    assert main([command, str(tmp_path)]) == 2
    (tmp_path / "monitor.jsonl").write_text("not json\n")
    assert main([command, str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "does not exist" in errors[0] and "no monitor.jsonl" in errors[1]
    assert re.search("line 1, is not a record", errors[2])


def test_a_callbacks_own_folder_is_advised_on_without_a_network(tmp_path, capsys):
    lines = [json.dumps(vars(record("wide", epoch))) for epoch in range(6)]
    (tmp_path / "monitor.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["advise", str(tmp_path)]) == 0
    assert "what these widths save is not known" in capsys.readouterr().out
    assert not (tmp_path / "advised.yaml").exists()
    for option in (["--cut"], ["--macs", "1"]):
        assert main(["advise", str(tmp_path), *option]) == 2
        assert "train.py" in capsys.readouterr().err
