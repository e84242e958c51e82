from __future__ import annotations

import io
import json
import logging
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_server import KEY, KEY_VARIABLE, LocalServer, Reply, Request, gemini, in_base64, openai, png
from PIL import Image

from pamela_rl.errors import BudgetError, ConfigError, ServiceError
from pamela_rl.steering.ledger import Budget, Ledger, Spent
from pamela_rl.steering.remote import RemoteGenerator
from pamela_rl.steering.services import GeminiImages, ImageService, OpenAIImages

GEMINI = GeminiImages("gemini-2.5-flash-image")
OPENAI = OpenAIImages("gpt-image-1", size="1024x1024", quality="low")
PLENTY = Budget(max_images=1000, price_per_image=0.04, max_cost=1000)
TRUNCATED = png(size=(200, 200))[:-40]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def generator(
    server: LocalServer, folder: Path, service: ImageService = GEMINI, budget: Budget = PLENTY, **changes: Any
) -> RemoteGenerator:
    own = {name: changes.pop(name) for name in ("height", "width", "concurrency", "max_pixels") if name in changes}
    return RemoteGenerator(service, server.config(**changes), budget, folder, **{"height": 8, "width": 12, **own})


def colour_of(request: Request) -> str:
    return str(request.body["contents"][0]["parts"][0]["text"])


def in_its_colour(request: Request) -> Reply:
    """The later the colour, the sooner the answer."""
    name = colour_of(request)
    return Reply(gemini(png(COLOURS[name])).body, delay=0.05 * (4 - list(COLOURS).index(name)))


def test_gemini_is_asked_for_a_picture_with_the_key_in_a_header(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG")
    with LocalServer(gemini(buffer.getvalue())) as server:
        service = GeminiImages("gemini-2.5-flash-image", aspect_ratio="3:2")
        images = generator(server, tmp_path, service)(["a cat"], [2**31 + 7])
    torch.testing.assert_close(images, torch.from_numpy(noise / 255).permute(2, 0, 1)[None].float())
    request = server.requests[0]
    assert request.path == "/v1beta/models/gemini-2.5-flash-image:generateContent"
    assert request.headers["x-goog-api-key"] == KEY
    assert "authorization" not in request.headers
    assert request.body == {
        "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"], "seed": 7, "imageConfig": {"aspectRatio": "3:2"}},
    }


def test_thoughts_of_gemini_are_not_its_picture(tmp_path: Path) -> None:
    thought = {"inlineData": {"data": in_base64(png(COLOURS["red"]))}, "thought": True}
    parts = [{"inline_data": {"data": in_base64(png(COLOURS["blue"]))}}, thought]
    with LocalServer(Reply({"candidates": [{"content": {"parts": parts}}]})) as server:
        images = generator(server, tmp_path)(["blue"], [0])
    assert images[0, :, 0, 0].tolist() == [0, 0, 1]


def test_openai_is_asked_for_a_picture(tmp_path: Path) -> None:
    with LocalServer(openai(png(COLOURS["green"]))) as server:
        images = generator(server, tmp_path, OPENAI)(["a cat"], [3])
    assert images.shape == (1, 3, 8, 12)
    assert images[0, :, 0, 0].tolist() == [0, 1, 0]
    request = server.requests[0]
    assert request.path == "/v1/images/generations"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {"model": "gpt-image-1", "prompt": "a cat", "n": 1, "size": "1024x1024", "quality": "low"}


def test_only_models_that_allow_it_are_told_how_to_send_the_picture() -> None:
    assert OpenAIImages("dall-e-3").body("a cat", 0)["response_format"] == "b64_json"
    assert "response_format" not in OpenAIImages("gpt-image-1-mini").body("a cat", 0)


def test_pictures_come_in_the_order_of_the_prompts_whatever_the_order_of_the_answers(tmp_path: Path) -> None:
    with LocalServer(answer=in_its_colour) as server:
        images = generator(server, tmp_path)([*COLOURS, "red"], [0, 0, 0, 0, 0])
    expected = torch.tensor([*COLOURS.values(), COLOURS["red"]]) / 255
    torch.testing.assert_close(images[:, :, 0, 0], expected)
    assert len(server.requests) == 4  # the same prompt and seed once


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_are_under_way_than_allowed(concurrency: int, tmp_path: Path) -> None:
    with LocalServer(Reply(gemini(png()).body, delay=0.05)) as server:
        generator(server, tmp_path, concurrency=concurrency)(["a cat"] * 9, list(range(9)))
    assert server.most_at_once <= concurrency


def test_what_was_drawn_costs_nothing_again_even_after_a_restart(tmp_path: Path) -> None:
    with LocalServer(answer=in_its_colour) as server:
        first = generator(server, tmp_path)(list(COLOURS), [0, 1, 2, 3])
        again = generator(server, tmp_path)(list(COLOURS), [0, 1, 2, 3])
        small = generator(server, tmp_path, height=4, width=4)(["blue"], [2])
        assert generator(server, tmp_path).spent == Spent(4, pytest.approx(0.16))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert small[0].mean((1, 2)).tolist() == [0, 0, 1]
    assert len(server.requests) == 4


def test_another_seed_model_option_or_address_is_another_picture(tmp_path: Path) -> None:
    with LocalServer(openai(png())) as server, LocalServer(openai(png())) as other:
        requests = [
            (server, OPENAI, 0),
            (server, OPENAI, 1),
            (server, OpenAIImages("gpt-image-1-mini", "1024x1024", "low"), 0),
            (server, OpenAIImages("gpt-image-1", "1024x1024", "high"), 0),
            (other, OPENAI, 0),
        ]
        for where, service, seed in requests * 2:
            generator(where, tmp_path, service)(["a cat"], [seed])
        assert len(server.requests) + len(other.requests) == len(requests)


def test_what_was_asked_lies_beside_the_picture(tmp_path: Path) -> None:
    with LocalServer(openai(png())) as server:
        generator(server, tmp_path, OPENAI)(["a cat"], [5])
    (record,) = (tmp_path / "pictures").glob("*.json")
    request = json.loads(record.read_text())
    assert (request["service"], request["base_url"], request["seed"]) == ("openai", server.url, 5)
    assert request["body"]["prompt"] == "a cat"
    assert {file.name for file in record.parent.iterdir()} == {record.name, record.with_suffix(".png").name}


def test_other_shapes_are_cut_around_the_middle_and_resized(tmp_path: Path) -> None:
    source = Image.new("RGB", (400, 100), "red")
    source.paste((0, 0, 255), (200, 0, 400, 100))
    buffer = io.BytesIO()
    source.save(buffer, format="JPEG", quality=95)
    with LocalServer(gemini(buffer.getvalue())) as server:
        image = generator(server, tmp_path, height=10, width=10)(["two halves"], [0])[0]
    assert image.shape == (3, 10, 10)
    torch.testing.assert_close(image[:, 5, 1], torch.tensor([1.0, 0.0, 0.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(image[:, 5, 8], torch.tensor([0.0, 0.0, 1.0]), atol=0.03, rtol=0)


BROKEN = {
    "truncated": gemini(TRUNCATED),
    "no picture": gemini(b"this is text"),
    "no base64": Reply({"candidates": [{"content": {"parts": [{"inlineData": {"data": "%%"}}]}}]}),
    "text only": Reply({"candidates": [{"content": {"parts": [{"text": "I drew it."}]}, "finishReason": "STOP"}]}),
    "nothing": Reply({"candidates": []}),
    "a list": Reply([1, 2]),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_picture_is_asked_for_again_paid_and_never_kept(broken: Reply, tmp_path: Path) -> None:
    with LocalServer(broken, gemini(png(COLOURS["blue"]))) as server:
        image = generator(server, tmp_path)(["blue"], [0])
    assert image[0, :, 0, 0].tolist() == [0, 0, 1]
    with LocalServer(broken) as server:
        drawing = generator(server, tmp_path)
        with pytest.raises(ServiceError, match=r"did not give a picture of 'blue' in 3 attempts.* is broken"):
            drawing(["blue"], [0])
        assert drawing.spent.images == 2 + 3
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 1


def test_a_cached_picture_that_went_bad_is_drawn_again(tmp_path: Path) -> None:
    with LocalServer(openai(png())) as server:
        drawing = generator(server, tmp_path, OPENAI)
        drawing(["a cat"], [0])
        (file,) = (tmp_path / "pictures").glob("*.png")
        file.write_bytes(file.read_bytes()[:50])
        drawing(["a cat"], [0])
        drawing(["a cat"], [0])
    assert len(server.requests) == 2


def test_errors_of_the_service_are_not_paid_and_time_outs_are(tmp_path: Path) -> None:
    with LocalServer(Reply({}, 500), Reply({}, 429), gemini(png())) as server:
        drawing = generator(server, tmp_path / "errors")
        drawing(["a cat"], [0])
        assert drawing.spent.images == 1
    with LocalServer(Reply({}, delay=0.5), gemini(png())) as server:
        drawing = generator(server, tmp_path / "late", timeout=0.2)
        drawing(["a cat"], [0])
        assert drawing.spent.images == 2
    with pytest.raises(ServiceError, match="no connection"):  # it is gone
        generator(server, tmp_path / "gone")(["a cat"], [0])
    assert Ledger(tmp_path / "gone" / "ledger.jsonl", PLENTY).spent == Spent(0, 0)


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        (Budget(3, price_per_image=0.04, max_cost=99), "3 pictures of 3 and 0.12 USD of 99 are used"),
        (Budget(99, price_per_image=0.1, max_cost=0.3, currency="EUR"), "and 0.3 EUR of 0.3 are used.* 0.1 EUR; raise"),
    ],
)
def test_the_budget_refuses_before_the_request_and_over_restarts(budget: Budget, sentence: str, tmp_path: Path) -> None:
    with LocalServer(gemini(png())) as server:
        drawing = generator(server, tmp_path, budget=budget, concurrency=1)
        with pytest.raises(BudgetError, match=sentence):
            drawing(["a cat"] * 5, list(range(5)))
        with pytest.raises(BudgetError, match=sentence):
            generator(server, tmp_path, budget=budget)(["a dog"], [0])
        assert generator(server, tmp_path, budget=budget)(["a cat"] * 3, [0, 1, 2]).shape == (3, 3, 8, 12)
    assert len(server.requests) == 3


def test_threads_do_not_exceed_the_budget_together(tmp_path: Path) -> None:
    with LocalServer(Reply(gemini(png()).body, delay=0.05)) as server:
        drawing = generator(server, tmp_path, budget=Budget(5, 0.04, 99), concurrency=8)
        with pytest.raises(BudgetError):
            drawing(["a cat"] * 20, list(range(20)))
    assert len(server.requests) == 5
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 5


def test_retries_do_not_exceed_the_budget(tmp_path: Path) -> None:
    with LocalServer(gemini(TRUNCATED)) as server, pytest.raises(BudgetError):
        generator(server, tmp_path, budget=Budget(2, 0.04, 99), num_retries=5)(["a cat"], [0])
    assert len(server.requests) == 2


def test_two_ledgers_of_one_file_share_a_budget(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / "ledger.jsonl", Budget(10, 0.5, 99)) for _ in range(2)]
    refused = []

    def buy(ledger: Ledger) -> None:
        for _ in range(8):
            try:
                ledger.charge()
            except BudgetError:
                refused.append(1)

    threads = [threading.Thread(target=buy, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 6
    assert [ledger.spent for ledger in ledgers] == [Spent(10, 5.0)] * 2


def test_a_torn_line_of_the_ledger_counts_as_a_picture_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    other = Ledger(path, Budget(3, 0.5, 99))
    refund = other.charge()
    with path.open("a") as stream:
        stream.write('{"bought": "12')
    assert other.spent == Spent(2, 1.0)
    Ledger(path, Budget(3, 0.5, 99)).charge()
    assert other.spent == Spent(3, 1.5)
    refund()
    assert other.spent == Spent(2, 1.0)


REFUSALS = {
    "of the prompt": (Reply({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}), "PROHIBITED_CONTENT"),
    "of the picture": (Reply({"candidates": [{"finishReason": "IMAGE_SAFETY", "content": {}}]}), "IMAGE_SAFETY"),
    "by status": (Reply({"error": {"code": "moderation_blocked", "message": "not safe"}}, 400), "400: not safe"),
}


@pytest.mark.parametrize(("reply", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_names_prompt_and_reason_and_is_not_repeated(reply: Reply, reason: str, tmp_path: Path) -> None:
    with LocalServer(reply) as server, pytest.raises(ServiceError, match=f"'an ugly duck'.*{reason}.*change"):
        generator(server, tmp_path)(["an ugly duck"], [0])
    assert len(server.requests) == 1


def test_what_was_drawn_before_a_refusal_stays(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        refused = Reply({"promptFeedback": {"blockReason": "SAFETY"}})
        return refused if colour_of(request) == "grey" else in_its_colour(request)

    with LocalServer(answer=answer) as server:
        drawing = generator(server, tmp_path, concurrency=1)
        with pytest.raises(ServiceError, match="SAFETY"):
            drawing(["red", "green", "grey", "blue"], [0] * 4)
        drawing(["red", "green"], [0, 0])
    assert [colour_of(request) for request in server.requests] == ["red", "green", "grey"]


def test_a_picture_of_too_many_pixels_is_not_decoded_and_not_asked_for_again(tmp_path: Path) -> None:
    with (
        LocalServer(gemini(png(size=(300, 200)))) as server,
        pytest.raises(ServiceError, match="more than 50000 pixels"),
    ):
        generator(server, tmp_path, max_pixels=50_000)(["a cat"], [0])
    assert len(server.requests) == 1


def test_the_key_is_in_no_file_and_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = Reply({"candidates": [{"finishReason": f"no {KEY}", "content": {}}], "key": KEY})
    with LocalServer(gemini(png()), Reply({"key": KEY}), echo) as server:
        drawing = generator(server, tmp_path, concurrency=1)
        with pytest.raises(ServiceError, match=r"no \[key\]") as caught:
            drawing(["a cat", "a dog"], [0, 0])
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".png", ".json", ".jsonl"}
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    words = [caplog.text, repr(drawing), repr(vars(drawing)), *traceback.format_exception(caught.value)]
    assert not [text for text in words if KEY in text]


def test_prompts_need_a_seed_each_and_none_is_no_picture(tmp_path: Path) -> None:
    with LocalServer(gemini(png())) as server:
        with pytest.raises(ConfigError, match="2 prompts but 1 seeds"):
            generator(server, tmp_path)(["a cat", "a dog"], [0])
        assert generator(server, tmp_path)([], []).shape == (0, 3, 8, 12)
    assert server.requests == []


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Budget(-1, 0.04, 9), "budget.max_images is -1"),
        (lambda: Budget(1, float("nan"), 9), "budget.price_per_image is nan"),
        (lambda: GeminiImages("../files"), "model is '../files'"),
        (lambda: OpenAIImages("a?key=b"), "model is"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(make: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make()
