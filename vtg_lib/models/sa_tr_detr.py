"""TR-DETR with SA-DETR's anchors, mask and noise groups (Xiong et al., Table 11), by the decoder's
interface alone.

TR-DETR has no fusion token: anchors are made from the mean of the clips that its decoder reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from vtg_lib.models import tr_detr
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.span_aware import SpanAware, SpanAwareConfig


@dataclass(frozen=True, kw_only=True)
class Config(SpanAwareConfig, tr_detr.Config):
    """`SpanAwareConfig` on TR-DETR's; noise groups, which Table 11 does not add, are off."""

    presets = {"qvhighlights": {}}

    noise: str = "off"


class SaTRDETR(SpanAware, tr_detr.TRDETR):
    """TR-DETR with the parts."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.add_parts(config)


ENTRY = ModelEntry(SaTRDETR, Config)
