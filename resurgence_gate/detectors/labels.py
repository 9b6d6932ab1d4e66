"""What a detector can name, known before it is loaded: a classifier's config.json says it, a CLIP is told.

A concept must be one label, and no more: top-1 over two labels of one name would miss half of the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from resurgence_gate.checkpoints.layout import read_json
from resurgence_gate.errors import RefusedCheckpoint, UsageError
from resurgence_gate.vocabulary import same_concept


def classifier_labels(folder: Path, detector: str) -> tuple[str, ...]:
    """The label of each output of the classifier in `folder`, in order. Raises UsageError."""
    config = _read(folder, "config.json", detector)
    entries = config["id2label"] if "id2label" in config else _timm_labels(config, detector)
    if not isinstance(entries, dict) or not entries:
        raise UsageError(
            f"detector {detector!r}: its config.json has no id2label, so nobody knows what it sees; "
            "choose a classifier that was saved with the names of its classes"
        )
    labels = [entries.get(str(i)) for i in range(len(entries))]
    nameless = [i for i, label in enumerate(labels) if not isinstance(label, str) or not label.strip()]
    if nameless:
        raise UsageError(
            f"detector {detector!r}: id2label in its config.json has {len(entries)} entries, and none names "
            f"class {nameless[0]}; name every class from 0 to {len(entries) - 1}"
        )
    return tuple(map(str, labels))


def require_open_clip_folder(folder: Path, detector: str) -> None:
    """Raise UsageError where `folder` does not describe an open_clip model."""
    if not isinstance(_read(folder, "open_clip_config.json", detector).get("model_cfg"), dict):
        raise UsageError(
            f"detector {detector!r}: its open_clip_config.json has no model_cfg; "
            "name a folder that open_clip's push_to_hf_hub or save_for_hf wrote"
        )


def require_labels(labels: Sequence[str], concepts: Sequence[str], detector: str) -> None:
    """Every concept of the policy must be one that the detector can name, by one label."""
    missing = [concept for concept in concepts if concept not in labels]
    if missing:
        raise UsageError(
            f"detector {detector!r} has no label for {', '.join(map(repr, missing[:5]))}"
            f"{' and others' if len(missing) > 5 else ''}; it would never see them. "
            "Choose a detector that knows these concepts, or take them out of the policy"
        )
    # ImageNet itself has two "crane": only a label that is asked for must be the only one of its name.
    for concept in concepts:
        classes = [i for i, label in enumerate(labels) if label == concept]
        if len(classes) > 1:
            raise UsageError(
                f"detector {detector!r}: {concept!r} names {len(classes)} of its classes "
                f"({', '.join(map(str, classes[:3]))}), so a picture of one would count as none of the other; "
                "name them apart, or take the concept out of the policy"
            )


def _timm_labels(config: dict[str, object], detector: str) -> dict[str, str] | None:
    """Those of timm's own form of config.json: its `label_names`, or of the ImageNet whose size it has."""
    if "architecture" not in config:
        return None
    from transformers import TimmWrapperConfig  # imports torch, by way of timm

    try:
        labels = TimmWrapperConfig.from_dict(config).id2label
    except Exception as error:  # whatever the entries of a damaged file lead to
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"detector {detector!r}: its config.json is not that of a timm model ({reason}); "
            "save it again, or download it again"
        ) from error
    return {str(i): name for i, name in labels.items()}


def require_one_label_each(
    labels: Sequence[str], concepts: Sequence[str], synonyms: Mapping[str, Sequence[str]], detector: str
) -> None:
    """No class but the concept's own may be called by another spelling of it, or by one of its synonyms.

    A picture that is called so shows the concept, and would count as free of it. Raises UsageError.
    """
    for label in labels:
        for concept in concepts if label not in concepts else ():
            if any(same_concept(name, label) for name in (concept, *synonyms.get(concept, ()))):
                raise UsageError(
                    f"detector {detector!r}: its class {label!r} is another name of {concept!r}; a picture called "
                    "so would count as free of it. Make one class of the two, or choose another detector"
                )


def _read(folder: Path, name: str, detector: str) -> dict[str, object]:
    where = f"detector {detector!r}"
    if not (folder / name).is_file():
        raise UsageError(
            f"{where}: no {name} in {folder}; name the folder of a detector of this kind, with all of its files"
        )
    try:
        return read_json(folder / name, where=where)
    except RefusedCheckpoint as error:
        raise UsageError(f"{error}; save it again, or download it again") from error
