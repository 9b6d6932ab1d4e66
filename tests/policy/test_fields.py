"""What `detectors describe` says is what the schema accepts."""

import pytest
import yaml
from pydantic import TypeAdapter

from resurgence_gate.detectors.registry import KINDS
from resurgence_gate.policy.fields import FieldText, detector_specs, example_of, fields_of
from resurgence_gate.policy.schema import DetectorSpec

SPECS = detector_specs()


def test_every_kind_has_a_section():
    assert tuple(SPECS) == KINDS


@pytest.mark.parametrize("kind", SPECS)
def test_the_example_is_accepted_and_says_all_that_must_be_said(kind):
    example = yaml.safe_load(yaml.safe_dump(example_of(SPECS[kind])))
    assert isinstance(TypeAdapter(DetectorSpec).validate_python(example), SPECS[kind])
    assert {name for name, field in SPECS[kind].model_fields.items() if field.is_required()} <= set(example)


@pytest.mark.parametrize("kind", SPECS)
def test_every_field_is_told_and_explained(kind):
    fields = fields_of(SPECS[kind])
    assert [f.name for f in fields if "." not in f.name] == [
        n for n in SPECS[kind].model_fields if n != "kind"
    ]
    assert all(field.meaning and field.type for field in fields if "." not in field.name)
    required = {f.name for f in fields if f.default is None}
    assert required == {n for n, f in SPECS[kind].model_fields.items() if f.is_required()} - {"kind"}


@pytest.mark.parametrize(
    ("kind", "name", "type_", "default"),
    [
        ("vqa", "model", "text", None),
        ("vqa", "questions", "section", ""),
        ("vqa", "questions.whether", "text with {}", '"Is {} in this image? Answer Yes or No."'),
        ("vqa", "questions.who", "text or null", '"Who is in this image? State their name only."'),
        ("vqa", "allow_remote_code", "true or false", "false"),
        ("vqa", "max_new_tokens", "whole number from 4 to 256", "16"),
        ("clip-zero-shot", "templates", "list of texts with {}", None),
        ("clip-zero-shot", "decide", "top-1, probability or margin", '"top-1"'),
        ("clip-zero-shot", "labels", "list of texts or null", "null"),
        ("giphy", "sha256", "64 hexadecimal digits or null", "null"),
        ("nudenet", "threshold", "number above 0 below 1", None),
        ("plugin", "options", "section", "{}"),
    ],
)
def test_types_and_defaults_in_words(kind, name, type_, default):
    field = next(f for f in fields_of(SPECS[kind]) if f.name == name)
    assert field == FieldText(name=name, type=type_, default=default, meaning=field.meaning)
