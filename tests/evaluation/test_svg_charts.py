from __future__ import annotations

import base64
import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from pamela_rl.evaluation.contact_sheets import contact_sheet, save_contact_sheet, to_png
from pamela_rl.evaluation.svg_charts import data_uri, line_chart


def points(svg: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(svg).iter("polyline")
    return [[tuple(map(float, p.split(","))) for p in line.attrib["points"].split(" ")] for line in lines]  # type: ignore[misc]


def test_a_picture_comes_back_from_png_and_from_a_page_to_the_nearest_byte() -> None:
    image = torch.rand(3, 5, 7)
    for data in (to_png(image), base64.b64decode(data_uri(image).removeprefix("data:image/png;base64,"))):
        again = torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).permute(2, 0, 1).float() / 255
        torch.testing.assert_close(again, image, atol=0.5001 / 255, rtol=0)


def test_values_out_of_range_are_cut_and_not_wrapped() -> None:
    image = torch.tensor([-0.5, 2.0, 1.0])[:, None, None].expand(3, 2, 2).clone().requires_grad_()
    assert Image.open(io.BytesIO(to_png(image))).getpixel((0, 0)) == (0, 255, 255)


def test_a_contact_sheet_reads_in_rows_with_white_where_pictures_end(tmp_path: Path) -> None:
    images = torch.rand(5, 3, 4, 6) * 0.9
    sheet = contact_sheet(images, columns=3, scale=2)
    assert sheet.shape == (3, 16, 36)
    for number in range(5):
        top, left = number // 3 * 8, number % 3 * 12
        torch.testing.assert_close(sheet[:, top : top + 8 : 2, left : left + 12 : 2], images[number])
        torch.testing.assert_close(sheet[:, top + 1 : top + 8 : 2, left + 1 : left + 12 : 2], images[number])
    assert sheet[:, 8:, 24:].min() == 1
    save_contact_sheet(images, tmp_path / "sheet.png", columns=3)
    with Image.open(tmp_path / "sheet.png") as written:
        assert written.size == (36, 16)


def test_a_chart_breaks_its_line_where_a_value_is_missing() -> None:
    first, second = points(line_chart("t", {"a": [1.0, 2.0, None, None, 1.0, 3.0]}, "iteration", range(6)))
    step = first[1][0] - first[0][0]
    assert second[0][0] - first[0][0] == pytest.approx(4 * step, abs=0.2)
    assert first[0][1] == second[0][1] > first[1][1] > second[1][1]  # larger values stand higher, y grows downwards


def test_a_chart_stays_within_its_frame_and_has_a_line_a_curve() -> None:
    curves = points(line_chart("t", {"a": [0.0, 1e6], "b": [-5.0, 2.0], "c": [3.0, 4.0]}, "iteration", [0, 5]))
    assert len(curves) == 3
    assert all(0 <= x <= 420 and 0 <= y <= 230 for curve in curves for x, y in curve)
    flat = points(line_chart("t", {"a": [2.0, 2.0, 2.0]}, "iteration", [1, 2, 3]))[0]
    assert len({y for _, y in flat}) == 1


@pytest.mark.parametrize("curves", [{}, {"a": []}, {"a": [None, None]}])
def test_nothing_to_draw_draws_nothing(curves: dict[str, list[float | None]]) -> None:
    assert line_chart("t", curves, "iteration", [0, 1]) == ""


def test_a_chart_is_well_formed_whatever_its_names() -> None:
    name = "<script>alert(1)</script> & \"quotes\" 'too'"
    root = ElementTree.fromstring(line_chart(name, {name: [1.0, 2.0]}, name, [0, 1], mark=1))
    assert root.attrib["aria-label"] == name
    assert sum(name in (text.text or "") for text in root.iter("text")) == 2


def test_a_mark_may_stand_between_values_and_outside_there_is_none() -> None:
    def marked(at: float) -> list[float]:
        root = ElementTree.fromstring(line_chart("t", {"a": [1.0, 2.0]}, "x", [0, 1], at, "<here>", ticks=(0, 1)))
        lines = [line for line in root.iter("line") if "stroke-dasharray" in line.attrib]
        assert [line.findtext("title") for line in lines] == ["<here>"] * len(lines)
        return [float(line.attrib["x1"]) for line in lines]

    ((first, last),) = [[x for x, _ in curve] for curve in points(line_chart("t", {"a": [1.0, 2.0]}, "x", [0, 1]))]
    assert marked(0.25) == [pytest.approx(first + (last - first) / 4, abs=0.1)]
    assert marked(1.5) == []


def test_ticks_stand_under_their_values_and_take_the_place_of_the_range() -> None:
    svg = line_chart("t", {"a": [1.0, 2.0, 3.0]}, "strength", [0, 0.5, 1.25], ticks=(0, 0.5, 1.25))
    texts = {text.text: float(text.attrib["x"]) for text in ElementTree.fromstring(svg).iter("text")}
    assert [texts[tick] for tick in ("0", "0.5", "1.25")] == [pytest.approx(x, abs=0.1) for x, _ in points(svg)[0]]
    assert "strength" in texts


def test_a_value_alone_between_gaps_is_a_dot() -> None:
    root = ElementTree.fromstring(line_chart("t", {"a": [None, 2.0, None, 1.0]}, "iteration", [0, 1, 2, 3]))
    assert len(list(root.iter("circle"))) == 2
    assert not list(root.iter("polyline"))


def test_places_need_not_be_evenly_spaced_and_the_mark_stands_at_its_own() -> None:
    svg = line_chart("t", {"a": [1.0, 2.0, 3.0]}, "KL", [0.0, 1.0, 10.0], mark=1)
    (curve,) = points(svg)
    assert curve[2][0] - curve[0][0] == pytest.approx(10 * (curve[1][0] - curve[0][0]), abs=1.5)
    dashed = [line for line in ElementTree.fromstring(svg).iter("line") if "stroke-dasharray" in line.attrib]
    assert [float(line.attrib["x1"]) for line in dashed] == [pytest.approx(curve[1][0], abs=0.06)]
