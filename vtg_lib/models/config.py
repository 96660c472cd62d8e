"""Published hyper-parameters, by data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class Published:
    """Mixin of a method's `Config`.

    Attributes:
        presets: data set (and "+features" where the authors have several) -> fields that differ from the
            defaults.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"qvhighlights": {}}

    @classmethod
    def paper(cls, dataset: str = "qvhighlights") -> Self:
        """The hyper-parameters that the authors published, in the paper or in their scripts.

        Raises:
            ValueError: none were published for `dataset`.
        """
        if dataset not in cls.presets:
            known = ", ".join(cls.presets)
            raise ValueError(
                f"{cls.__module__}: expected data set {known}; got {dataset!r}; pass a Config of your own"
            )
        return cls(**cls.presets[dataset])
