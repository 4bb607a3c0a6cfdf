"""OpenAI's own package against a live site: texts whole and as streams, errors, money."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import httpx
import openai
import pytest
from openai import OpenAI

from accounts import limits
from accounts.limits import Unit
from accounts.models import Organization
from billing import budgets
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog.models import ModelVersion
from tests import factories
from tests.inference.writers import cost, make_writer
from tests.live import Site


@pytest.fixture
def writer(site: Site) -> ModelVersion:
    """A text model."""
    return make_writer()


@pytest.fixture
def payer(site: Site) -> Organization:
    """An organization with five dollars."""
    return factories.make_organization()


@pytest.fixture
def client(site: Site, payer: Organization) -> Iterator[OpenAI]:
    """OpenAI's package as its documents show it, with a key of ours."""
    _, secret = factories.make_key(payer)
    with OpenAI(api_key=secret, base_url=f"{site.url}/v1", max_retries=0) as made:
        yield made


def hold_of(answer_id: str) -> Hold:
    return Hold.objects.get(pk=answer_id.partition("-")[2])


def test_a_chat_answers_and_costs_its_characters(
    client: OpenAI, writer: ModelVersion, payer: Organization, site: Site
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=writer.model.path,
        messages=[{"role": "system", "content": "Hi"}, {"role": "user", "content": "there"}],
        max_completion_tokens=20,
        seed=1,
    )
    answer = raw.parse()

    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("Hi\nthere\n")
    assert 1 <= answer.usage.completion_tokens <= 20
    expected = cost("Hi\nthere\n", answer.usage.completion_tokens)
    assert Decimal(raw.headers["mercato-cost"]) * NANOS == expected
    hold = hold_of(answer.id)
    assert (hold.state, hold.captured_nanos) == ("captured", expected)
    assert hold.reserved_nanos == cost("Hi\nthere\n", 20)
    used = UsageEvent.objects.get(hold=hold)
    assert (used.input_tokens, used.output_tokens) == (9, answer.usage.completion_tokens)
    site.settle()
    assert budgets.wallet(payer).posted == expected


def test_a_stream_is_the_same_text_in_pieces_and_ends_with_what_was_used(
    client: OpenAI, writer: ModelVersion
) -> None:
    whole = client.completions.create(
        model=writer.model.path, prompt="Once", max_tokens=300, seed=7, temperature=0.8
    )
    pieces, usage, reason = [], None, ""
    for chunk in client.completions.create(
        model=writer.model.path,
        prompt="Once",
        max_tokens=300,
        seed=7,
        temperature=0.8,
        stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            pieces.append(choice.text)
            # The package's types do not know that it is null until the end.
            reason = str(choice.finish_reason)

    assert len(pieces) > 2
    assert "".join(pieces) == whole.choices[0].text
    assert len(whole.choices[0].text) == 300
    assert reason == whole.choices[0].finish_reason == "length"
    assert usage is not None
    assert usage == whole.usage
    assert usage.total_tokens == 304


def test_a_chat_streams(client: OpenAI, writer: ModelVersion) -> None:
    chunks = list(
        client.chat.completions.create(
            model=writer.model.path,
            messages=[{"role": "user", "content": [{"type": "text", "text": "Go"}]}],
            max_tokens=40,
            temperature=0,
            top_p=0.9,
            n=1,
            stream=True,
        )
    )

    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
    assert all(chunk.usage is None for chunk in chunks)
    assert Hold.objects.get().state == "captured"


def test_a_stop_is_not_part_of_the_answer_and_nothing_after_it_is_charged(
    client: OpenAI, writer: ModelVersion
) -> None:
    settings = {"model": writer.model.path, "prompt": "a", "max_tokens": 60, "temperature": 0}
    text = client.completions.create(**settings).choices[0].text  # type: ignore[call-overload]
    stop = text[5:8]
    cut = client.completions.create(**settings, stop=[stop, "\u2603"])  # type: ignore[call-overload]

    assert cut.choices[0].text == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage.completion_tokens == text.index(stop) + len(stop)


def test_an_answer_of_one_character_has_one(client: OpenAI, writer: ModelVersion) -> None:
    made = client.completions.create(model=writer.model.path, prompt="Once", max_tokens=1)

    assert len(made.choices[0].text) == 1
    assert made.usage is not None
    assert made.usage.completion_tokens == 1


def test_errors_are_the_exceptions_that_the_package_has_for_them(
    client: OpenAI, writer: ModelVersion, site: Site
) -> None:
    path = writer.model.path
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="nobody/nothing", prompt="a")
    with pytest.raises(openai.BadRequestError) as unknown:
        client.completions.create(model=path, prompt="a", extra_body={"top_k": 3})
    with pytest.raises(openai.BadRequestError) as many:
        client.completions.create(model=path, prompt="a", n=2)
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=path, prompt="a", max_tokens=9999)
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model=factories.make_version().model.path, prompt="a")
    with pytest.raises(openai.AuthenticationError) as key:
        OpenAI(api_key="nonsense", base_url=f"{site.url}/v1", max_retries=0).models.list()

    codes = [one.value.code for one in (missing, unknown, many, long, wrong, key)]
    assert codes == [
        *("model_not_found", "unknown_field", "invalid_request"),
        *("context_length_exceeded", "wrong_task", "invalid_api_key"),
    ]
    assert "top_k" in unknown.value.message
    assert many.value.param == "n"
    assert not Hold.objects.exists()


def test_without_money_nothing_is_written(site: Site, writer: ModelVersion) -> None:
    _, secret = factories.make_key(factories.make_organization(credit_nanos=1000))
    poor = OpenAI(api_key=secret, base_url=f"{site.url}/v1", max_retries=0)

    with pytest.raises(openai.APIStatusError) as refused:
        poor.completions.create(model=writer.model.path, prompt="a", max_tokens=100, stream=True)
    fits = poor.completions.create(model=writer.model.path, prompt="a", max_tokens=9)

    assert refused.value.status_code == 402
    assert refused.value.code == "insufficient_credit"
    assert fits.usage is not None


def test_models_are_listed_and_found(client: OpenAI, writer: ModelVersion) -> None:
    listed = [model.id for model in client.models.list()]
    found = client.models.retrieve(writer.model.path)

    assert writer.model.path in listed
    assert found.id == writer.model.path
    assert found.object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/nothing")


def test_a_ceiling_is_kept(client: OpenAI, writer: ModelVersion) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.completions.create(
            model=writer.model.path,
            prompt="a",
            max_tokens=1000,
            extra_headers={"Mercato-Max-Cost": "0.00001"},
        )

    assert refused.value.code == "max_cost_exceeded"
    assert not Hold.objects.exists()


def test_events_look_as_documented(site: Site, writer: ModelVersion, payer: Organization) -> None:
    _, secret = factories.make_key(payer)
    response = httpx.post(
        f"{site.url}/v1/completions",
        headers={"Authorization": f"Bearer {secret}"},
        json={"model": writer.model.path, "prompt": "x", "max_tokens": 5, "stream": True},
        timeout=60,
    )

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["mercato-hold"] == str(Hold.objects.get().pk)
    events = response.text.split("\n\n")
    assert all(event.startswith("data: {") for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]


def test_a_limit_is_a_rate_limit_error_and_a_stream_holds_its_place_until_it_ends(
    site: Site, writer: ModelVersion, payer: Organization
) -> None:
    key, secret = factories.make_key(payer)
    limits.set_of_key(key, {Unit.CONCURRENCY: 1})
    long = make_writer(context=200_000, hidden=256).model.path
    client = OpenAI(api_key=secret, base_url=f"{site.url}/v1", max_retries=0)

    def short() -> str:
        made = client.completions.create(model=writer.model.path, prompt="a", max_tokens=3)
        return made.choices[0].text

    with client.completions.create(
        model=long, prompt="a", max_tokens=150_000, stream=True
    ) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as refused:
            short()
    ended = Hold.objects.filter(state="captured")
    site.wait_until(ended.exists, seconds=30)

    assert refused.value.code == "rate_limited"
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert len(short()) == 3
