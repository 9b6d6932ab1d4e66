"""The policy: what was erased, what must stay, how to look, how to provoke, and what is accepted.

Nothing that bears on the verdict has a default: a threshold that nobody wrote down approves things that
nobody looked at.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from resurgence_gate.vocabulary import plain, spellings


def _unique(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a text that stands twice, in whatever case: it would be counted twice."""
    seen: set[str] = set()
    for i, text in enumerate(texts):
        if text.casefold() in seen:
            raise PydanticCustomError("duplicate", '"{text}" is written twice', {"text": text, "at": (i,)})
        seen.add(text.casefold())
    return texts


def _distinct(concepts: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse two spellings of one concept: a detector that may say either splits its answers between them."""
    seen: dict[str, str] = {}
    for i, concept in enumerate(concepts):
        if (earlier := seen.get(plain(concept))) is not None:
            context = {"concept": concept, "earlier": earlier, "at": (i,)}
            raise PydanticCustomError("duplicate", '"{concept}" is "{earlier}" again', context)
        seen |= dict.fromkeys(spellings(concept), concept)
    return concepts


def _trimmed(concept: str) -> str:
    """Refuse what nobody sees at either end: prompts, labels and reports would take it for another name."""
    if concept != concept.strip() or not (concept[0] + concept[-1]).isprintable():
        message = "{concept} begins or ends with a space or a sign that cannot be seen; take it away"
        raise PydanticCustomError("untrimmed", message, {"concept": repr(concept)})
    return concept


def _increasing(doses: tuple[int, ...]) -> tuple[int, ...]:
    """Refuse doses that do not grow: they are looked at along one run."""
    for i in range(1, len(doses)):
        if doses[i] <= doses[i - 1]:
            context = {"dose": doses[i], "last": doses[i - 1], "at": (i,)}
            raise PydanticCustomError("not_increasing", "{dose} after {last}: doses must increase", context)
    return doses


Name = Annotated[str, Field(min_length=1, pattern=r"\S")]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_unique)]
Concept = Annotated[Name, AfterValidator(_trimmed)]
ConceptNames = Annotated[
    tuple[Concept, ...], Field(min_length=1), AfterValidator(_unique), AfterValidator(_distinct)
]
Prompt = Annotated[str, Field(pattern=r"\{\}")]  # "{}" stands for the concept
Prompts = Annotated[tuple[Prompt, ...], Field(min_length=1), AfterValidator(_unique)]
Count = Annotated[int, Field(ge=1)]
Doses = Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_increasing)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
# A rate is at most 1 and at least 0 whatever is measured: with these limits a rule would judge nothing.
AtMost = Annotated[float, Field(ge=0, lt=1)]
AtLeast = Annotated[float, Field(gt=0, le=1)]


class Strict(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Sampler(Strict):
    """How pictures are made: DDIM (eta 0) with classifier-free guidance, the same for every model."""

    scheduler: Literal["ddim"]
    steps: Annotated[int, Field(ge=1, le=500)]  # models know 1000 timesteps, some of them from 1 on
    guidance: Annotated[float, Field(ge=1)]
    size: Annotated[int, Field(ge=8, multiple_of=8)]  # pixels, square


class Concepts(Strict):
    """Concepts to look for: `pictures` of each, spread over the prompts."""

    concepts: ConceptNames
    prompts: Prompts
    pictures: Count


class ClipZeroShot(Strict):
    """Top-1 over `labels` by cosine with `templates` (open_clip)."""

    kind: Literal["clip-zero-shot"]
    model: Name  # pocket:clip, a folder in open_clip's format, or an open_clip architecture
    pretrained: Name | None = None  # open_clip tag, with an architecture
    templates: Prompts
    labels: ConceptNames | None = None  # default: every erased, retained and benign concept
    min_score: Share = 0.0  # below it the concept is not called present


class Classifier(Strict):
    """Top-1 of an image classifier (transformers); its own labels."""

    kind: Literal["classifier"]
    model: Name  # pocket:classifier, a folder, or org/model
    min_score: Share = 0.0


DetectorSpec = Annotated[ClipZeroShot | Classifier, Field(discriminator="kind")]


class FineTune(Strict):
    """What the benign fine-tunes share: AdamW, constant rate, clip 1, mirrored half of the time."""

    name: Name
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    batch: Count
    doses: Doses  # optimizer steps at which the model is looked at
    replicates: Count  # the same probe with other seeds


class FullFineTune(FineTune):
    """All UNet parameters."""

    kind: Literal["full"]


class CrossAttentionFineTune(FineTune):
    """The `attn2` parameters only."""

    kind: Literal["cross-attention"]


class LoraFineTune(FineTune):
    """Low-rank adapters on the attention projections (peft)."""

    kind: Literal["lora"]
    rank: Count
    alpha: Positive
    target_modules: Names


ProbeSpec = Annotated[FullFineTune | CrossAttentionFineTune | LoraFineTune, Field(discriminator="kind")]


def _named_apart(probes: tuple[ProbeSpec, ...]) -> tuple[ProbeSpec, ...]:
    """Refuse two probes of one name: results are filed by it."""
    seen = {"reference", "before"}  # the names of the other arms
    for i, probe in enumerate(probes):
        if probe.name in seen:
            context = {"name": probe.name, "at": (i, "name")}
            raise PydanticCustomError("duplicate", '"{name}" already names another arm', context)
        seen.add(probe.name)
    return probes


class BenignData(Strict):
    """Pictures that the reference makes of concepts that are neither erased nor like them."""

    concepts: ConceptNames
    prompts: Prompts
    pictures: Count  # per concept
    held_out: Annotated[float, Field(gt=0, lt=1)]  # share kept out of training, to see whether the probe took


class Scoped(Strict):
    """`pooled`: asked of all concepts together; `each`: asked of every concept."""

    scope: Literal["pooled", "each"]


class DetectorBlind(Scoped):
    """RG001."""

    min_reference_rate: AtLeast


class DetectorCriesWolf(Scoped):
    """RG002."""

    max_false_alarm_rate: AtMost


class Undetermined(Strict):
    """RG003."""

    max_undetermined_rate: AtMost


class ProbeDidNotTake(Strict):
    """RG004."""

    min_probe_gain: AtLeast  # relative fall of the held-out loss
    min_weight_change: Positive
    min_retained_rate: AtLeast  # after the probe: a fine-tune that wrecks the model proves nothing


class ProbeContaminated(Strict):
    """RG005."""

    max_contamination: AtMost


class NotErased(Scoped):
    """RG101."""

    max_rate_before: AtMost


class Resurged(Scoped):
    """RG102."""

    max_rate_after: AtMost


class Lift(Scoped):
    """RG103."""

    max_resurgence: AtMost


class UtilityLost(Scoped):
    """RG104."""

    min_retained_rate: AtLeast
    max_retained_drop: AtMost


class Rules(Strict):
    """All rules, each with its thresholds; none may be left out."""

    confidence: Annotated[float, Field(ge=0.8, lt=1)]
    RG001: DetectorBlind
    RG002: DetectorCriesWolf
    RG003: Undetermined
    RG004: ProbeDidNotTake
    RG005: ProbeContaminated
    RG101: NotErased
    RG102: Resurged
    RG103: Lift
    RG104: UtilityLost


class Policy(Strict):
    """One release test."""

    version: Literal[1]
    name: Name
    description: Name
    reference: Name  # the model before erasure, as a reference string
    seed: Annotated[int, Field(ge=0)]
    sampler: Sampler
    detector: DetectorSpec
    erased: Concepts
    retained: Concepts
    benign: BenignData
    probes: Annotated[tuple[ProbeSpec, ...], Field(min_length=1), AfterValidator(_named_apart)]
    rules: Rules

    @property
    def digest(self) -> str:
        """SHA-256 over what the policy says, not over how its file is written."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
