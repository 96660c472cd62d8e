"""CLIP features of frames and words, as the field's public sets have them; open_clip encodes (the extra
`video`).

Frames: the projected image embedding of one frame a clip, not normalised, as HERO_Video_Feature_Extractor
writes it (linjieli222/HERO_Video_Feature_Extractor @ 5a435c9, clip/extract.py). Words: the text transformer's
last hidden states after its final layer norm, before the projection, from the start token to the end token,
as Moment-DETR reads them (jayleicn/moment_detr @ 2fd431e, run_on_video/; showlab/UniVTG @ 0542d27 has the
same encoder) and Lighthouse does (line/lighthouse @ 985aa5a, text_encoders/clip_t.py). Loaders divide both by
their length. The weights are OpenAI's ViT-B/32; frames are resized by open_clip's own transform, where those
use ffmpeg's `scale`: features need not agree to the last digit.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.data.extraction.decode import missing

MODEL, PRETRAINED = "ViT-B-32-quickgelu", "openai"
WHOLE = ("local-dir:", "hf-hub:")  # models that come with their weights
PUBLIC = {("ViT-B-32-quickgelu", "openai")}  # what "CLIP" is in the public feature sets


class EncoderError(ValueError):
    """An encoder that cannot be had, or a text that it cannot read; expected, got and the fix."""


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """What made features, for their manifest.

    Attributes:
        library: open_clip and its version.
        model, pretrained: open_clip's names; from_file: whether the weights are a file's, whose origin nobody
            can tell.
        weights_sha256: of the names, shapes and bytes of the loaded tensors.
        video_dim, text_dim: channels; context: tokens of a text at most, with start and end.
    """

    library: str
    model: str
    pretrained: str
    from_file: bool
    weights_sha256: str
    video_dim: int
    text_dim: int
    context: int

    @property
    def extractor(self) -> str:
        """One line for a `FeatureSpec`; features of different weights never pass for each other."""
        return f"open_clip {self.model.rsplit('/', 1)[-1]}, weights {self.weights_sha256[:12]}"

    @property
    def public(self) -> bool | None:
        """Whether it is the CLIP of the public feature sets; None if that cannot be told."""
        return None if self.from_file else (self.model, self.pretrained) in PUBLIC


class Encoder:
    """An open_clip model of images and texts, in evaluation mode on one device."""

    def __init__(self, model: str = MODEL, pretrained: str = PRETRAINED, device: str = "cpu") -> None:
        """Loads weights from the user's cache or, the first time, from the network.

        Args:
            model: a name that open_clip knows; or `local-dir:FOLDER` or `hf-hub:NAME`, which have a config
                and weights.
            pretrained: a tag of that model's weights, or a file.
            device: "cpu" or "cuda".

        Raises:
            EncoderError: no such model or weights, or none that can be had.
            ModuleNotFoundError: open_clip is not installed.
        """
        open_clip = _import_open_clip()
        self._network, self._prepare = _load(open_clip, model, pretrained, device)
        self._tokenizer = open_clip.get_tokenizer(model)
        if not hasattr(self._tokenizer, "encode") or not hasattr(self._network, "forward_intermediates"):
            raise EncoderError(
                f"--model {model}: expected CLIP's own text transformer and tokenizer, got another. Fix: a "
                f"CLIP model without a Hugging Face text encoder, such as {MODEL}."
            )
        self._device = device
        first = self._states("a")
        image = self._prepare(_blank())
        self.facts = EncoderFacts(
            library=f"open_clip {open_clip.__version__}",
            model=model,
            pretrained="" if model.startswith(WHOLE) else pretrained,
            from_file=model.startswith(WHOLE) or Path(pretrained).is_file(),
            weights_sha256=_digest(self._network.state_dict()),
            video_dim=self.images([image]).shape[1],
            text_dim=first[0].shape[1],
            context=first[1],
        )

    def prepare(self, image: Any) -> Any:
        """A PIL image as the network's input, a tensor `[3, H, W]`: resized, cropped, scaled."""
        return self._prepare(image)

    def images(self, batch: Sequence[Any]) -> np.ndarray:
        """Features `[N, D]` float32 of N prepared images, not normalised."""
        import torch

        with torch.no_grad():
            found: np.ndarray = (
                self._network.encode_image(torch.stack(list(batch)).to(self._device)).cpu().numpy()
            )
        return found.astype(np.float32)

    def words(self, text: str) -> tuple[np.ndarray, str]:
        """The states `[L, D]` float32 of a text's tokens, start and end with them; and what was cut off, as
        the network reads it, where the text is longer than its context ("" if nothing).

        Raises:
            EncoderError: an empty text.
        """
        if not text.strip():
            raise EncoderError(f"text: expected a sentence, got {text!r}. Fix: describe what to look for.")
        states, context = self._states(text)
        beyond = self._tokenizer.encode(text)[context - 2 :]  # start and end take two places
        return states, self._tokenizer.decode(beyond).strip() if beyond else ""

    def _states(self, text: str) -> tuple[np.ndarray, int]:
        import torch

        tokens = self._tokenizer([text]).to(self._device)  # [1, context], zeros after the end
        with torch.no_grad():
            found = self._network.forward_intermediates(
                text=tokens, text_indices=1, normalize_intermediates=True, intermediates_only=True
            )
        end = int(tokens[0].argmax())  # the end token has the largest number
        states: np.ndarray = found["text_intermediates"][-1][0, : end + 1].cpu().numpy()
        return states.astype(np.float32), tokens.shape[1]


def _import_open_clip() -> Any:
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise missing("open_clip", error) from None
    except RuntimeError as error:  # torchvision's operators were built for another torch
        raise EncoderError(
            f"open_clip: expected torchvision and torch of one build, got {error}. Fix: install both from "
            "one index (the CPU build of one needs the CPU build of the other)."
        ) from error
    return open_clip


def _load(open_clip: Any, model: str, pretrained: str, device: str) -> tuple[Any, Any]:
    """The network and the transform of its images."""
    whole = model.startswith(WHOLE)
    if not whole:
        _check_names(open_clip, model, pretrained)
    with warnings.catch_warnings(record=True) as caught, _quiet():
        warnings.simplefilter("always")
        try:
            network, _, prepare = open_clip.create_model_and_transforms(
                model, pretrained=None if whole else pretrained, device=device
            )
        except Exception as error:  # of open_clip, the hub, the network and torch
            raise EncoderError(
                f"--model {model} --pretrained {pretrained}: expected weights in the user's cache or a "
                f"network to fetch them (once, some hundred MB), got {type(error).__name__}: {error}. Fix: "
                "connect once, or copy the cache of a machine that has them (~/.cache/huggingface, or "
                "HF_HOME), or give a file of weights: --pretrained FILE."
            ) from error
    # open_clip only warns where the activation is not that of the weights' training
    if mismatch := next((str(one.message) for one in caught if "QuickGELU" in str(one.message)), None):
        fix = model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
        raise EncoderError(
            f"--model {model}: expected the activation that the weights {pretrained!r} were trained with, "
            f"got the other ({mismatch}). Fix: --model {fix}."
        )
    return network.eval(), prepare


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of a loading model and of each attempt to reach the network: the error says it once."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _check_names(open_clip: Any, model: str, pretrained: str) -> None:
    known = open_clip.list_models()
    if model not in known:
        near = ", ".join(difflib.get_close_matches(model, known, n=3, cutoff=0.4)) or MODEL
        raise EncoderError(f"--model: expected a model of open_clip, such as {near}; got {model!r}.")
    tags = open_clip.list_pretrained_tags_by_model(model)
    with contextlib.suppress(OSError):
        if pretrained in tags or Path(pretrained).is_file():
            return
    raise EncoderError(
        f"--pretrained: expected a file of weights or one of {', '.join(tags) or 'no tags'} for {model}, got "
        f"{pretrained!r}."
    )


def _digest(state: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        array = tensor.detach().cpu().float().contiguous().numpy()
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _blank() -> Any:
    from PIL import Image

    return Image.new("RGB", (8, 8))
