"""Chat templates of strangers: rendered in a process that ends when they take more than they may."""

from __future__ import annotations

import time

import pytest

from engram_bench.models import rendering, template_worker
from engram_bench.models.ordinary_template import ordinary_template
from engram_bench.models.rendering import BoundedTemplate, TemplateError, TemplateSyntaxError

USER = [{"role": "user", "content": "Hi \udc80 é"}]


def test_a_template_is_rendered_with_plain_values() -> None:
    template = BoundedTemplate(
        "{% for message in messages %}<{{ message.role }}>{{ message['content'] }}{% endfor %}{{ tools is none }}"
    )

    assert template.render(messages=USER, tools=None) == "<user>Hi \udc80 éTrue"
    assert template.render_many([{"messages": USER, "tools": []}, {"messages": [], "tools": None}]) == [
        "<user>Hi \udc80 éFalse",
        "True",
    ]


def test_a_mistake_in_the_syntax_has_its_line() -> None:
    with pytest.raises(TemplateSyntaxError, match="Expected an expression") as caught:
        BoundedTemplate("a\n{% if %}").render()

    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|undefined"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ 'a' * 10**10 }}", "memory|OverflowError|MemoryError"),
        ("{{ 'a'|center(10**10) }}", "memory|OverflowError"),
        ("{{ '%10000000000d' % 1 }}", "memory|Error"),
        (
            "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
            "memory",
        ),
        ("{{ 'abc' * 9000000 }}", "text of 27,000,000 characters"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].content.nothing.more }}", "no attribute 'nothing'"),
        ("{{ '{' * 70000 }}{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "."),
    ],
    ids=lambda value: value[:30],
)
def test_what_a_template_may_not_is_one_error_and_the_next_one_is_rendered(source: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason) as caught:
        BoundedTemplate(source).render(messages=USER)

    assert len(str(caught.value)) < 600
    assert BoundedTemplate("{{ 1 * 2 }}").render() == "2"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ 9**(9**9) % 7 }}",
        "{% set n = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == n.x|list }}"
        "{{ n.x|string|length }}",
    ],
    ids=["loops", "one-instruction", "shared-lists"],
)
def test_a_template_that_does_not_end_is_ended(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "CPU_S", 0.3)
    rendering._worker_of.cache_clear()
    started = time.perf_counter()

    with pytest.raises(TemplateError, match=r"more than 0.3 s of processor time|more than 320 MB of memory"):
        BoundedTemplate(source).render(messages=USER)

    rendering._worker_of.cache_clear()
    assert time.perf_counter() - started < 60  # the limit is of processor time, and the machine may be busy
    assert BoundedTemplate("{{ 1 * 2 }}").render() == "2"


def test_a_process_that_was_killed_is_an_error_and_started_again() -> None:
    BoundedTemplate("{{ 2 * 3 }}").render()
    worker = rendering._worker()
    worker._process.kill()

    with pytest.raises(TemplateError, match="has ended"):
        BoundedTemplate("{{ 2 * 3 }}").render()
    assert BoundedTemplate("{{ 2 * 3 }}").render() == "6"


def test_a_process_that_cannot_be_started_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_worker_of", lambda _: rendering._Worker())
    monkeypatch.setattr("sys.executable", "/no/such/python")

    with pytest.raises(TemplateError, match="cannot be started"):
        BoundedTemplate("{{ 2 * 3 }}").render()


def test_the_worker_s_answers_are_plain() -> None:
    made = template_worker.environment()

    assert template_worker.answer(made.from_string, "{{ [1]|tojson }}", {}) == {"text": "[1]"}
    assert template_worker.answer(made.from_string, "{% x %}", {})["line"] == 1
    assert template_worker.answer(made.from_string, "{{ 1/0 }}", {}) == {"error": "ZeroDivisionError: division by zero"}
    assert template_worker.answer(made.from_string, "{{ strftime_now('%Y') }}", {}) == {"text": "2024"}
    assert template_worker.answer(made.from_string, "{% generation %}a{% endgeneration %}", {}) == {"text": "a"}
    assert template_worker.answer(made.from_string, "{{ raise_exception('no') }}", {}) == {"error": "no"}


ORDINARY = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message.content | trim }}{% endfor %}",
    "system": "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'].strip() + '\n' %}"
    "{% else %}{% set system = '' %}{% endif %}{% for m in messages[1:] %}{{ system ~ m.content }}{% endfor %}",
    "turns": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns') }}{% elif m.role in ['user', 'system'] and m.content is string %}{{ m.content }}"
    "{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("source", ORDINARY.values(), ids=ORDINARY)
def test_an_ordinary_template_needs_no_other_process(source: str) -> None:
    assert ordinary_template(template_worker.environment(), source) is not None


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 99 }}",
        "{{ 2 ** 99 }}",
        "{% for a in range(9) %}{% endfor %}",
        "{% for a in messages %}{% for b in messages %}{% endfor %}{% endfor %}",
        "{% for a in messages recursive %}{{ loop(a) }}{% endfor %}",
        "{% set x = 'a' %}{% set y = x + x %}",
        "{% for a in messages %}{% set x = a.content %}{{ x }}{% set y = x ~ x %}{% endfor %}",
        "{% set messages = messages[0].content %}{% for a in messages %}{{ a }}{% endfor %}",
        "{% for a in messages[0] %}{% endfor %}",
        "{% macro m() %}{% endmacro %}",
        "{% set n = namespace(x=1) %}",
        "{{ messages | tojson }}",
        "{{ 'a' | center(99) }}",
        "{{ '%9d' % 1 }}",
        "{{ loop.index % messages }}",
        "{{ 'a'.ljust(99) }}",
        "{{ messages[0].content.split(messages[0].role) }}",
        "{{ [messages, messages] }}",
        "{{ {'a': messages} }}",
        "{% set x %}{{ messages }}{% endset %}",
        "{{ strftime_now('%99d') }}",
        "{% if %}",
        "{{ " + "(" * 9000 + " }}",
        "a" * 20_001,
    ],
    ids=lambda value: value[:40],
)
def test_what_could_grow_is_not_ordinary(source: str) -> None:
    assert ordinary_template(template_worker.environment(), source) is None
