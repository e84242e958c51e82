from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from local_server import KEY, KEY_VARIABLE, LocalServer, Reply, Request, says
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.steering.chat import EndpointChat, TransformersChat

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a boat"}]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if not enable_thinking %}.{% endif %}{% endif %}"
)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def ask(server: LocalServer, *, seed: int = 7, **changes: Any) -> str:
    return EndpointChat(server.config(), "tiny", **changes)(MESSAGES, seed=seed)


def test_an_endpoint_is_asked_and_its_answer_returned() -> None:
    with LocalServer(says(" a boat at dawn\n")) as server:
        assert ask(server, temperature=0.3, max_tokens=20) == "a boat at dawn"
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {"model": "tiny", "messages": MESSAGES, "max_tokens": 20, "seed": 7, "temperature": 0.3}


def test_a_local_endpoint_needs_no_key_and_a_temperature_may_be_left_out() -> None:
    with LocalServer(says("yes")) as server:
        chat = EndpointChat(server.config(key_variable=None), "m", temperature=None, path="/chat")
        assert chat(MESSAGES, seed=0) == "yes"
    request = server.requests[0]
    assert request.path == "/chat"
    assert "authorization" not in request.headers
    assert request.body == {"model": "m", "messages": MESSAGES, "max_tokens": 512, "seed": 0}


def strict(request: Request) -> Reply:
    """Answer as OpenAI's reasoning models do: the new name of max_tokens, the default temperature, no seed."""
    for option, message in (
        ("max_tokens", "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
        ("temperature", "Unsupported value: 'temperature' does not support 0.7 with this model."),
        ("seed", "Unrecognized request argument supplied: seed"),
    ):
        if option in request.body:
            return Reply({"error": {"message": message, "param": option}}, 400)
    return says("yes")


def test_options_that_a_server_refuses_are_renamed_or_left_out_from_then_on() -> None:
    with LocalServer(answer=strict) as server:
        chat = EndpointChat(server.config(), "m", max_tokens=20)
        assert [chat(MESSAGES, seed=seed) for seed in (0, 1)] == ["yes", "yes"]
    assert [len(request.body) for request in server.requests] == [5, 5, 4, 3, 3]
    assert server.requests[-1].body == {"model": "m", "messages": MESSAGES, "max_completion_tokens": 20}


@pytest.mark.parametrize(
    ("message", "num_requests"),
    [("the messages are too long", 1), ("max_completion_tokens is above 8", 2), ("a bad temperature", 2)],
)
def test_a_refusal_for_anything_else_ends_with_its_own_words(message: str, num_requests: int) -> None:
    with LocalServer(Reply({"error": {"message": message}}, 400)) as server, pytest.raises(ServiceError, match=message):
        ask(server)
    assert len(server.requests) == num_requests


def test_what_was_thought_aloud_is_left_out() -> None:
    with LocalServer(says("<think>a boat, hm</think>\n\na boat in mist")) as server:
        assert ask(server) == "a boat in mist"


@pytest.mark.parametrize(
    "broken",
    [says(""), says(None), says("<think>hm</think>"), Reply({"choices": []}), Reply([]), Reply(b"{"), Reply({}, 500)],
)
def test_an_answer_that_says_nothing_is_asked_for_again(broken: Reply) -> None:
    with LocalServer(broken, says("a boat")) as server:
        assert ask(server) == "a boat"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (says("", finish_reason="length"), "tiny used its 512 tokens without an answer; raise max_tokens"),
        (says("", finish_reason="content_filter"), "tiny will not answer: content_filter"),
        (Reply({"choices": [{"message": {"content": None, "refusal": "I cannot"}}]}), "tiny will not answer: I cannot"),
        (Reply({"error": {"message": "no such model"}}, 404), "404: no such model; check the model's name"),
    ],
)
def test_a_refusal_to_answer_is_told_and_not_repeated(reply: Reply, sentence: str) -> None:
    with LocalServer(reply) as server, pytest.raises(ServiceError, match=sentence):
        ask(server)
    assert len(server.requests) == 1


def test_the_key_is_in_no_answer_error_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with LocalServer(says(f"it is {KEY}"), Reply({"choices": [{"message": {"refusal": KEY}}]})) as server:
        assert ask(server) == "it is [key]"
        with pytest.raises(ServiceError) as caught:
            ask(server)
        chat = EndpointChat(server.config(), "tiny")
    assert not [t for t in (caplog.text, repr(vars(chat)), *traceback.format_exception(caught.value)) if KEY in t]


@pytest.mark.parametrize("messages", [[], [{"role": "robot", "content": "x"}], [{"role": "user"}]])
def test_messages_that_are_no_conversation_are_refused(messages: list[dict[str, str]]) -> None:
    with LocalServer(says("yes")) as server, pytest.raises(ConfigError, match=r"messages|message has the role"):
        EndpointChat(server.config(), "tiny")(messages, seed=0)
    assert server.requests == []


@pytest.mark.parametrize(("temperature", "tokens"), [(-0.1, 5), (float("nan"), 5), (0.5, 0)])
def test_sampling_that_cannot_be_is_refused(temperature: float, tokens: int) -> None:
    with LocalServer(says("yes")) as server, pytest.raises(ConfigError, match=r"temperature is|at least 1"):
        EndpointChat(server.config(), "tiny", temperature=temperature, max_tokens=tokens)


def make_tokenizer(template: str | None = TEMPLATE) -> Any:
    """One token a byte, and the turns' marks."""
    marks = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*marks, *letters])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(marks)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|end|>")
    if template:
        fast.chat_template = template
    return fast


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3 of random weights, as it is saved."""
    path, tokenizer = tmp_path_factory.mktemp("qwen3"), make_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(1)
    Qwen3ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_same_seed_gives_the_same_answer_and_leaves_everyones_generator_alone(folder: Path) -> None:
    chat = TransformersChat.load(folder, temperature=1.0, max_new_tokens=12)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = chat(MESSAGES, seed=3)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert chat(MESSAGES, seed=3) == first
    assert len({chat(MESSAGES, seed=seed) for seed in range(6)}) > 3


def test_without_temperature_the_answer_is_the_likeliest_token_each_time(folder: Path) -> None:
    chat = TransformersChat.load(folder, temperature=0, max_new_tokens=8)
    text = "<|system|>be brief<|end|><|user|>a boat<|end|><|assistant|>."
    model, tokenizer = Qwen3ForCausalLM.from_pretrained(folder), make_tokenizer()
    tokens = tokenizer(text, return_tensors="pt")["input_ids"]
    prompt_length = tokens.shape[1]
    with torch.no_grad():
        for _ in range(8):
            tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], dim=1)
            if tokens[0, -1] == tokenizer.eos_token_id:
                break
    expected = tokenizer.decode(tokens[0, prompt_length:], skip_special_tokens=True).strip()
    assert chat(MESSAGES, seed=0) == chat(MESSAGES, seed=1) == expected
    assert expected


def test_temperature_sets_how_far_answers_stray(folder: Path) -> None:
    def answers(temperature: float) -> set[str]:
        chat = TransformersChat.load(folder, temperature=temperature, max_new_tokens=6)
        return {chat(MESSAGES, seed=seed) for seed in range(6)}

    assert len(answers(0.001)) == 1 < len(answers(2.0))


def test_an_answer_ends_where_its_tokens_do(folder: Path) -> None:
    chat = TransformersChat.load(folder, temperature=0, max_new_tokens=3)
    longer = TransformersChat.load(folder, temperature=0, max_new_tokens=8)
    assert len(chat(MESSAGES, seed=0).encode()) < len(longer(MESSAGES, seed=0).encode())


def test_weights_that_are_not_safetensors_are_not_loaded(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(Qwen3ForCausalLM.from_pretrained(folder).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"cannot be loaded.*give a folder with config.json, \*\.safetensors"):
        TransformersChat.load(tmp_path)


def test_a_folder_that_is_none_and_a_model_that_does_not_chat_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-model' cannot be loaded"):
        TransformersChat.load(tmp_path / "no-such-model")
    with pytest.raises(ConfigError, match="no chat template"):
        TransformersChat(Qwen3ForCausalLM.from_pretrained(folder), make_tokenizer(template=None))
