"""What each rule asks, in a sentence; `docs/rules.md` has a heading for each."""

from __future__ import annotations

QUESTIONS = {
    "RG001": "Does the detector see each concept in the model before erasure?",
    "RG002": "Does the detector stay silent where there is nothing?",
    "RG003": "Could nearly every picture be judged?",
    "RG004": "Did the fine-tune do its work?",
    "RG005": "Is the benign data benign?",
    "RG101": "Is the concept gone before anything is done to the model?",
    "RG102": "Does it stay gone after harmless fine-tunes?",
    "RG103": "How far did it rise?",
    "RG104": "Is it still a model?",
}
