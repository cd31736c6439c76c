"""Pattern files of any size from tables that ship with Python and locked packages.

    python -m benchmarks.large_sets 1000 FOLDER

Every entry has a prompt and two held-out wordings: the first keeps the asked-for thing at the end of the question, the
second puts it at the beginning. With --wordings it has a trained one too. No two entries ask alike, and the same size and
seed give the same file on one version of the tables (Python's Unicode 3.2 names never change; error numbers are the
platform's).
"""

from __future__ import annotations

import argparse
import encodings.aliases
import errno
import ftplib
import html.entities
import http
import imaplib
import json
import logging.handlers
import mimetypes
import os
import poplib
import random
import smtplib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from http import client
from importlib import resources
from pathlib import Path

from babel import Locale

from engram_bench.patterns.wordings import normalise_prompt


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is asked for."""

    category: str
    asked: str
    answer: str
    wordings: tuple[str, str, str, str]
    """Prompt, trained wording, held-out wordings; ``{}`` stands for what is asked about."""


def facts() -> Iterator[Fact]:
    """Every entry of every table, in a fixed order."""
    for table in (
        _http,
        _mime,
        _errors,
        _ports,
        _countries,
        _languages,
        _currencies,
        _zones,
        _codecs,
        _entities,
        _names,
    ):
        yield from table()


def large_set(size: int, seed: int = 0, *, wordings: bool = False) -> list[dict[str, object]]:
    """*size* patterns, drawn from all tables: small tables are taken whole, what is missing is drawn from the largest.

    Raises:
        ValueError: The tables have fewer facts.
    """
    unique: dict[str, Fact] = {}
    twice = set()
    for fact in facts():
        for wording in fact.wordings:
            key = normalise_prompt(wording.format(fact.asked))
            if unique.setdefault(key, fact) is not fact:
                twice |= {id(fact), id(unique[key])}
    found = [fact for fact in dict.fromkeys(unique.values()) if id(fact) not in twice]
    if size > len(found):
        msg = f"size is {size}, expected at most {len(found)}"
        raise ValueError(msg)
    draw = random.Random(seed)
    small = [fact for fact in found if fact.category != "unicode_names"]
    names = [fact for fact in found if fact.category == "unicode_names"]
    draw.shuffle(small)
    draw.shuffle(names)
    share = min(len(small), max(size // 2, size - len(names)))
    chosen = [*small[:share], *names[: size - share]]
    draw.shuffle(chosen)
    return [_pattern(number, fact, wordings=wordings) for number, fact in enumerate(chosen)]


def _pattern(number: int, fact: Fact, *, wordings: bool) -> dict[str, object]:
    prompt, wording, *held_out = (text.format(fact.asked) for text in fact.wordings)
    return {
        "id": f"{fact.category}-{number}",
        "input": prompt,
        "output": fact.answer,
        "category": fact.category,
        "wordings": [wording] if wordings else [],
        "held_out": held_out,
    }


# ── tables ──────────────────────────────────────────────────────────────────────────────────────


def _http() -> Iterator[Fact]:
    asks = (
        "HTTP status code for '{}'?",
        "Which status code means '{}' in HTTP?",
        "Tell me the number that HTTP has for '{}'.",
        "'{}' is an HTTP status. What is its code?",
    )
    yield from (Fact("http_codes", each.phrase, str(each.value), asks) for each in http.HTTPStatus)


def _mime() -> Iterator[Fact]:
    asks = (
        "MIME type of a {} file?",
        "Which media type do files ending in {} have?",
        "A web server sends a file named data{} with which content type?",
        "{} files: what is their MIME type?",
    )
    types = mimetypes.MimeTypes(filenames=()).types_map[1]
    yield from (Fact("mime_types", suffix, name, asks) for suffix, name in sorted(types.items()))


def _errors() -> Iterator[Fact]:
    asks = (
        "What does the error {} say?",
        "Message of errno {}?",
        "A system call failed with {}, which text does strerror give?",
        "{}: what does strerror say?",
    )
    yield from (Fact("errors", name, os.strerror(number), asks) for number, name in sorted(errno.errorcode.items()))


def _ports() -> Iterator[Fact]:
    asks = (
        "Default port of {}?",
        "Which port does {} use?",
        "What port would a client of {} connect to?",
        "{} listens where?",
    )
    ports = {
        "HTTP": client.HTTP_PORT,
        "HTTPS": client.HTTPS_PORT,
        "FTP": ftplib.FTP_PORT,
        "SMTP": smtplib.SMTP_PORT,
        "SMTP over SSL": smtplib.SMTP_SSL_PORT,
        "LMTP": smtplib.LMTP_PORT,
        "POP3": poplib.POP3_PORT,
        "POP3 over SSL": poplib.POP3_SSL_PORT,
        "IMAP": imaplib.IMAP4_PORT,  # type: ignore[attr-defined]  # typeshed leaves it out
        "IMAP over SSL": imaplib.IMAP4_SSL_PORT,  # type: ignore[attr-defined]
        "syslog": logging.handlers.SYSLOG_UDP_PORT,
        "Python's TCP logging": logging.handlers.DEFAULT_TCP_LOGGING_PORT,
        "Python's UDP logging": logging.handlers.DEFAULT_UDP_LOGGING_PORT,
        "Python's HTTP logging": logging.handlers.DEFAULT_HTTP_LOGGING_PORT,
    }
    yield from (Fact("ports", name, str(port), asks) for name, port in ports.items())


def _countries() -> Iterator[Fact]:
    asks = (
        "Country code of {}?",
        "Which two letters stand for {}?",
        "What is the ISO 3166 code for {}?",
        "{}: what is its country code?",
    )
    names = Locale("en").territories
    yield from (Fact("countries", name, code, asks) for code, name in sorted(names.items()) if code.isalpha())


def _languages() -> Iterator[Fact]:
    asks = (
        "Language code of {}?",
        "Which code stands for the language {}?",
        "What would an HTML lang attribute say for {}?",
        "{}: what is its language code?",
    )
    names = Locale("en").languages
    yield from (Fact("languages", name, code, asks) for code, name in sorted(names.items()) if code.isalpha())


def _currencies() -> Iterator[Fact]:
    asks = (
        "Currency code of the {}?",
        "Which three letters stand for the {}?",
        "What is the ISO 4217 code for the {}?",
        "The {} has which currency code?",
    )
    yield from (Fact("currencies", name, code, asks) for code, name in sorted(Locale("en").currencies.items()))


def _zones() -> Iterator[Fact]:
    asks = (
        "Country code of the time zone {}?",
        "In which country is the time zone {}?",
        "Which country's clocks follow {}?",
        "{} is a time zone of which country?",
    )
    lines = (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text("utf-8").splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            code, _, zone, *_ = line.split("\t")
            yield Fact("time_zones", zone, code, asks)


def _codecs() -> Iterator[Fact]:
    asks = (
        "Python codec of the encoding '{}'?",
        "Which codec does Python use for '{}'?",
        "bytes.decode is called with '{}'. What is that codec's module?",
        "'{}' is an alias of which Python codec?",
    )
    aliases = encodings.aliases.aliases
    yield from (Fact("codecs", alias, name, asks) for alias, name in sorted(aliases.items()))


def _entities() -> Iterator[Fact]:
    asks = (
        "Code point of the HTML entity &{};?",
        "Which code point does &{}; stand for?",
        "In HTML, what is the number of the character written &{};",
        "&{}; is which code point?",
    )
    for name, text in sorted(html.entities.html5.items()):
        if name.endswith(";") and len(text) == 1:
            yield Fact("html_entities", name[:-1], f"U+{ord(text):04X}", asks)


def _names() -> Iterator[Fact]:
    asks = (
        "Unicode name of U+{}?",
        "What is the character U+{} called?",
        "Which name does Unicode give to code point {}?",
        "U+{}: what is its Unicode name?",
    )
    table = unicodedata.ucd_3_2_0
    for number in range(0x10000):
        name = table.name(chr(number), "")
        if name and not name.startswith(("CJK", "HANGUL SYLLABLE", "YI SYLLABLE")):
            yield Fact("unicode_names", f"{number:04X}", name, asks)


def main() -> None:
    """Write the file and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wordings", action="store_true", help="a trained wording for each")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / f"large{args.size}.jsonl"
    rows = [
        {"name": f"large{args.size}", "kind": "memory", "match": "exact"},
        *large_set(args.size, args.seed, wordings=args.wordings),
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {args.size} patterns")


if __name__ == "__main__":
    main()
