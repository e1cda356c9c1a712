"""The server with real clients: the `openai` package, curl, and bare sockets, against the tiny model."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

from tests.contract.served_here import running  # noqa: E402
from tests.contract.slow_steps import steps_wait  # noqa: E402

from selfimprove.judges.judge_config import JudgeConfig  # noqa: E402
from selfimprove.sampling.engine import SamplingConfig  # noqa: E402
from selfimprove.serve.app import Limits, app_of  # noqa: E402
from selfimprove.serve.asks import Answer, Ask, Line  # noqa: E402
from selfimprove.serve.protocol import Improve  # noqa: E402
from selfimprove.serve.served_models import Models  # noqa: E402
from selfimprove.serve.ways import answered  # noqa: E402

pytestmark = pytest.mark.slow

_ASKED = [{"role": "user", "content": "How can Ben make tea with jars?"}]


@pytest.fixture(scope="module")
def models() -> Models:
    judge = JudgeConfig(prompt="tiny", votes=1, max_tokens=48)
    return replace(Models.of("tiny", {"device": "cpu"}), judge=judge)


@pytest.fixture(scope="module")
def url(models: Models) -> Iterator[str]:
    with running(app_of(models, limits=Limits(max_tokens=400, body=20_000))) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def _post(url: str, **body: Any) -> requests.Response:
    return requests.post(
        f"{url}/v1/chat/completions", json={"messages": _ASKED, **body}, timeout=60
    )


def test_openais_client_gets_what_it_knows(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    told = client.chat.completions.create(model="tiny", messages=_ASKED, max_tokens=32, n=2, seed=1)
    assert [choice.index for choice in told.choices] == [0, 1]
    assert told.choices[0].message.content.startswith("To make tea")
    assert told.usage.total_tokens == told.usage.prompt_tokens + told.usage.completion_tokens
    text = client.completions.create(model="tiny", prompt="Q: 2 + 2\nA:", max_tokens=8, stop=["\n"])
    assert text.choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize(("n", "stop"), [(1, None), (2, ["jars", " the"])])
def test_a_stream_is_the_response_of_its_seed_as_it_is_drawn(
    client: Any, n: int, stop: list[str] | None
) -> None:
    same = {"model": "tiny", "messages": _ASKED, "max_tokens": 32, "seed": 7, "n": n, "stop": stop}
    whole = client.chat.completions.create(**same)
    chunks = list(
        client.chat.completions.create(**same, stream=True, stream_options={"include_usage": True})
    )
    told = [c.choices[0] for c in chunks if c.choices]
    for choice in whole.choices:
        said = [t.delta.content or "" for t in told if t.index == choice.index]
        assert "".join(said) == choice.message.content
        assert stop or len(said) > 5
        ends = [t.finish_reason for t in told if t.index == choice.index]
        assert ends == [*[None] * (len(ends) - 1), choice.finish_reason]
    assert chunks[-1].usage == whole.usage


def test_pieces_are_told_while_the_rest_is_drawn(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps_wait(monkeypatch)
    under_way: list[int] = []
    line = Line(lambda _: under_way.append(models.house.under_way))
    how = SamplingConfig(temperature=0, max_tokens=300)
    (answer,) = answered(models, Ask("a", "Q: Ann has 3 kites.\n\n\n", how, Improve()), line)
    assert len(answer.text.split()) <= len(under_way) < line.new_tokens
    assert under_way[0] == 1


def test_an_improved_stream_ends_with_what_improving_came_by(client: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=_ASKED, max_tokens=32, seed=3, stream=True,
            stream_options={"include_usage": True}, extra_body={"improve": {"method": "vote", "n": 4}},
        )
    )  # fmt: skip
    assert chunks[-2].model_extra["improve"]["n"] == 4
    assert 4 < chunks[-1].usage.completion_tokens <= 4 * 32


def test_a_server_behind_this_one_draws_and_streams_through(url: str) -> None:
    behind = {"url": f"{url}/v1", "model": "tiny", "retries": 0}
    models = Models.of("tiny", {"server": behind}, f"{url}/v1")
    with (
        running(app_of(models)) as front,
        openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0) as client,
    ):
        same = {"model": "tiny", "messages": _ASKED, "max_tokens": 32, "seed": 7}
        whole = client.chat.completions.create(**same)
        pieces = [
            c.choices[0].delta.content or ""
            for c in client.chat.completions.create(**same, stream=True)
        ]
        assert "".join(pieces) == whole.choices[0].message.content
        assert len(pieces) > 5
        assert 0 < whole.usage.completion_tokens <= 32
        told = _post(front, max_tokens=8, improve={"method": "vote", "n": 3}).json()
        assert told["improve"]["n"] == 3
        assert told["usage"]["completion_tokens"] > 3
        refused = _post(front, max_tokens=99, messages=[{"role": "user", "content": "owl " * 600}])
        assert refused.status_code == 400
        assert "the model reads 512" in refused.json()["error"]["message"]


def test_a_server_behind_this_one_that_is_gone_is_a_502() -> None:
    nobody = "http://127.0.0.1:9/v1"
    behind = {"url": nobody, "model": "tiny", "retries": 0}
    with running(app_of(Models.of("tiny", {"server": behind}, nobody))) as front:
        gone = _post(front)
        assert gone.status_code == 502
        assert "failed for good" in gone.json()["error"]["message"]
        assert "gave no answer" in _post(front, stream=True).text


def test_who_hangs_up_frees_the_rows_at_once(url: str) -> None:
    draws = {"prompt": "Q: Ann has 3 kites.\n\n\n", "temperature": 0, "max_tokens": 400, "n": 64}
    with (
        pytest.raises(requests.ReadTimeout),
        requests.post(f"{url}/v1/completions", json=draws, timeout=0.3),
    ):
        pass
    _wait_for(url, "selfimprove_draws 0.0")
    page = requests.get(f"{url}/metrics", timeout=10).text
    assert "selfimprove_answering 0.0" in page


@pytest.mark.parametrize(
    ("improve", "kept"),
    [({"method": "vote", "n": 4}, "votes"), ({"method": "best_of_n", "n": 3}, "scores"),
     ({"method": "self_refine", "steps": 1}, "chain")],
)  # fmt: skip
def test_what_improved_a_response_comes_back_with_it(
    client: Any, improve: dict[str, Any], kept: str
) -> None:
    told = client.chat.completions.create(
        model="tiny", messages=_ASKED, max_tokens=32, seed=3, extra_body={"improve": improve}
    )
    came = told.model_extra["improve"]
    assert told.usage.completion_tokens > (4 if kept == "votes" else 3)
    assert came["method"] == improve["method"]
    assert kept in came
    if "chosen" in came:
        assert 0 <= came["chosen"] < improve["n"]
    if kept == "scores":
        assert came["by"] == "its own judgement"
        assert len(came["scores"]) == 3


def test_curl_reads_it(url: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    body = json.dumps({"messages": _ASKED, "max_tokens": 8})
    words = [
        "curl",
        "-s",
        f"{url}/v1/chat/completions",
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"max_tokens": 401}, 400, "above this server's 400"),
        ({"temperature": -1}, 400, "temperature"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "\ud83c"}]}, 400, "half a character"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
            400,
            "text",
        ),
        ({"stop": ""}, 400, "stop"),
        ({"top_p": 1e-300}, 400, "top_p"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "type text"),
        ({"model": "gpt"}, 404, "tiny is"),
        ({"improve": {"method": "pit"}}, 400, "needs a finished PIT run"),
        ({"improve": {"method": "voting"}}, 400, "improve.method"),
        ({"improve": {"method": "vote"}, "n": 2}, 400, "leave n out"),
        ({"tools": [{"type": "function"}]}, 400, "tools is not followed here"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format is not followed"),
        ({"logprobs": True}, 400, "logprobs is not followed"),
        ({"messages": [{"role": "user", "content": "owl " * 600}]}, 400, "the model reads 512"),
        ({"messages": [{"role": "user", "content": "owl " * 6000}]}, 413, "20,000 bytes"),
    ],
)
def test_what_cannot_be_answered_is_told(
    url: str, body: dict[str, Any], status: int, said: str
) -> None:
    reply = _post(url, **body)
    assert reply.status_code == status
    assert said in reply.json()["error"]["message"]


def test_the_pages_own_example_runs(client: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    asked = code[code.index("told = ") : code.index("print(")]
    namespace: dict[str, Any] = {"client": client}
    exec(asked, namespace)
    assert namespace["told"].model_extra["improve"]["votes"]


def test_a_body_without_an_end_is_not_read(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)))) as sent:
        sent.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")  # fmt: skip
        assert b" 411 " in sent.recv(200)


def test_what_is_unsaid_is_what_the_model_has_room_for(url: str) -> None:
    assert _post(url, stream=None, model=None).status_code == 200


def test_what_asks_for_nothing_is_let_pass(url: str) -> None:
    nothing = {"logprobs": False, "response_format": {"type": "text"}, "presence_penalty": 0, "user": "a",
               "tools": [{"type": "function"}], "tool_choice": "none", "logit_bias": None}  # fmt: skip
    assert _post(url, max_tokens=4, **nothing).status_code == 200


def test_one_model_is_told_by_its_name(url: str) -> None:
    assert requests.get(f"{url}/v1/models/tiny", timeout=10).json()["id"] == "tiny"
    other = requests.get(f"{url}/v1/models/some/other", timeout=10)
    assert other.status_code == 404
    assert "tiny is" in other.json()["error"]["message"]


def test_a_name_that_is_not_this_servers_is_refused() -> None:
    with running(app_of(Models.of("tiny", {}), hosts={"127.0.0.1"}, answering=_Held())) as url:
        assert requests.get(f"{url}/health", timeout=10).status_code == 200
        named = requests.get(f"{url}/v1/models", headers={"Host": "evil.example:80"}, timeout=10)
    assert named.status_code == 421
    assert "--allow-host" in named.json()["error"]["message"]


def test_text_that_is_continued_is_not_improved(url: str) -> None:
    body = {"prompt": "Ben", "max_tokens": 4, "improve": {"method": "vote"}}
    reply = requests.post(f"{url}/v1/completions", json=body, timeout=60)
    assert reply.status_code == 400
    assert "continued as it stands" in reply.json()["error"]["message"]


class _Broken:
    def __call__(self, ask: Ask, line: Line) -> list[Answer]:
        raise ZeroDivisionError


def test_what_fails_inside_is_counted_and_ends_a_stream_with_a_word() -> None:
    with running(app_of(Models.of("tiny", {}), answering=_Broken())) as url:
        assert _post(url).status_code == 500
        assert '"server_error"' in _post(url, stream=True).text
        assert 'status="500"} 1.0' in requests.get(f"{url}/metrics", timeout=10).text


def test_figures_are_told_and_strange_pages_are_not_there(url: str) -> None:
    _post(url, max_tokens=4)
    page = requests.get(f"{url}/metrics", timeout=10).text
    assert 'selfimprove_answers_total{method="none"}' in page
    assert requests.get(f"{url}/v1/nothing", timeout=10).status_code == 404
    assert requests.get(f"{url}/health", timeout=10).json() == {"status": "ok"}


class _Held:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.seen: list[str] = []

    def __call__(self, ask: Ask, line: Line) -> list[Answer]:
        assert self.may.wait(30)
        self.seen.append(str(ask.prompt))
        return [Answer("said", "stop")]


def _in_background(url: str, text: str) -> threading.Thread:
    body = {"prompt": text, "max_tokens": 4}
    thread = threading.Thread(
        target=lambda: requests.post(f"{url}/v1/completions", json=body, timeout=60)
    )
    thread.start()
    return thread


def _wait_for(url: str, figure: str) -> None:
    deadline = time.monotonic() + 20
    while figure not in requests.get(f"{url}/metrics", timeout=10).text:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_full_queue_says_come_again_and_who_hangs_up_gives_the_place_up() -> None:
    held = _Held()
    models = Models.of("tiny", {})
    limits = Limits(waiting=1, together=1)
    with running(app_of(models, limits=limits, answering=held)) as url:
        threads = [_in_background(url, "first")]
        time.sleep(0.3)
        with closing(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))) as gone:
            body = b'{"prompt": "gone", "max_tokens": 4}'
            head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            gone.sendall(head.encode() + body)
            _wait_for(url, "selfimprove_waiting 1.0")
            full = _post(url, max_tokens=4)
            assert full.status_code == 429
            assert full.headers["Retry-After"] == "1"
        _wait_for(url, "selfimprove_waiting 0.0")
        threads.append(_in_background(url, "third"))
        _wait_for(url, "selfimprove_waiting 1.0")
        held.may.set()
        for thread in threads:
            thread.join()
    assert held.seen == ["first", "third"]


def test_who_has_no_key_is_not_answered() -> None:
    held = _Held()
    held.may.set()
    with running(app_of(Models.of("tiny", {}), key="secret", answering=held)) as url:
        assert _post(url).status_code == 401
        assert requests.get(f"{url}/metrics", timeout=10).status_code == 401
        assert requests.get(f"{url}/health", timeout=10).status_code == 200
        with openai.OpenAI(base_url=f"{url}/v1", api_key="secret") as client:
            told = client.chat.completions.create(model="tiny", messages=_ASKED)
    assert told.choices[0].message.content == "said"


def test_a_key_may_hold_any_character() -> None:
    held = _Held()
    held.may.set()
    head = {"Authorization": "Bearer schlüssel".encode()}
    with running(app_of(Models.of("tiny", {}), key="schlüssel", answering=held)) as url:
        assert requests.get(f"{url}/v1/models", headers=head, timeout=10).status_code == 200
        assert requests.get(f"{url}/v1/models", timeout=10).status_code == 401
