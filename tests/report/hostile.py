"""Text that would like to be more than text, and reports that are full of it."""

from __future__ import annotations

import json
from typing import Any

from resurgence_gate.decision.rules import RULES
from resurgence_gate.report import from_json, to_json
from resurgence_gate.report.json import Report
from resurgence_gate.vocabulary import Judgement, Outcome, Verdict

PAYLOADS = {
    "script": "<script>window.hacked = 1; alert(1)</script>",
    "script end": "</script><script>window.hacked = 1</script>",
    "style end": "</style><style>body { display: none }</style><link rel=stylesheet href=https://example.com/x.css>",
    "picture": "<img src=x onerror='window.hacked = 1'><img src=https://example.com/x.png>",
    "drawing": "<svg onload=window.hacked=1><use href=https://example.com/x.svg#a /></svg>",
    "attribute": '" onmouseover="window.hacked = 1" autofocus onfocus="window.hacked = 1" style="color:red',
    "quote": "' onclick='window.hacked = 1' x='",
    "comment": "--><!-- <!--[if true]><script>window.hacked = 1</script>",
    "title end": "</title><base href=https://example.com/><meta http-equiv=refresh content='0;url=https://example.com'>",
    "frame": "<iframe src=javascript:parent.hacked=1></iframe><object data=https://example.com/x></object>",
    "address": "javascript:window.hacked=1//",
    "form": "</select></form></option><form action=https://example.com><button autofocus>x</button></form>",
    "template": "{{ 7 * 7 }}{% include '/etc/passwd' %}{{ page.__class__.__mro__ }}{# #}${7 * 7}",
    "entity": "&lt;script&gt;window.hacked=1&lt;/script&gt;&#x3c;b&#x3e;&quot;",
    "direction": "\u202eSSAP\u202c \u2066x\u2069 \u200f\u200e\u061c\u200b\ufeff\u2028\u2029",
    "joined": "\u200d\u200c\ufe0f \U000e0100\U000e0041 \u2800\u3164 \ufe00x\u200d",
    "control": "a\x00b\x07c\x1b[31md\x85e\x9b",
    "surrogate": "\ud83d alone \udc00",
    "long": "incomprehensibilities" * 200,
    "lines": "one\r\ntwo\n\n\tthree",
    "stacked": "Z̷̡̢̛̥̰͖͙̼̪͓" * 20,
}
# What code looks at; everything else is anyone's.
_MEANT = {"reference", "before", "open", "blurred", "withheld", *Verdict, *Judgement, *Outcome, *RULES}


def poisoned(report: Report, payload: str) -> Report:
    """`report` with `payload` in every text, the same in the same places, so that names still fit together."""
    body = json.loads(to_json(report))
    version, pictures = body["schema_version"], body.get("pictures")
    body = _poisoned(body, payload)
    body["schema_version"] = version
    if pictures is not None:  # their digests are looked up
        kept = [
            {**new, "sha256": old["sha256"], "file": old["file"]}
            for old, new in zip(pictures, body["pictures"], strict=True)
        ]
        body["pictures"] = kept
    return from_json(json.dumps(body))


def _poisoned(value: Any, payload: str, *, key: bool = False) -> Any:
    match value:
        case dict():
            named = {
                "control",
                "before",
                "false_alarms",
                "retained_control",
                "retained_before",
                "retained_drop",
            }
            return {
                name: {_text(k, payload): _poisoned(v, payload) for k, v in item.items()}
                if name in named and isinstance(item, dict) and "hits" not in item
                else _poisoned(item, payload)
                for name, item in value.items()
            }
        case list():
            # An arm of the retained concepts, and their rates by name.
            if (
                len(value) == 2
                and isinstance(value[0], dict)
                and set(value[0]) == {"probe", "dose", "replicate"}
            ):
                return [_poisoned(value[0], payload), {_text(k, payload): v for k, v in value[1].items()}]
            return [_poisoned(item, payload) for item in value]
        case str():
            return _text(value, payload)
        case _:
            return value


def _text(text: str, payload: str) -> str:
    return text if text in _MEANT else f"{text}{payload}"
