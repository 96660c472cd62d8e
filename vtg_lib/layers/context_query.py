"""Context-query attention: clips and words that read each other (VSLNet, Zhang et al., ACL 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.dropout import Dropout
from vtg_lib.layers.pooling import WordPool


class ContextQueryAttention(nn.Module):
    """Clips refined by the words in both directions, and by the sentence as a whole; a ReLU at the end.

    The similarity of clip v and word q is a . v + b . q + (c * v) . q, with learned a, b, c (trilinear). As
    VSLNet's fuser in mingyao1120/TR-DETR @ fca43a9.

    Args:
        dropout: on what the similarity reads.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.clip = nn.Linear(width, 1, bias=False)
        self.word = nn.Linear(width, 1, bias=False)
        self.product = nn.Parameter(torch.empty(1, 1, width))
        self.mix = nn.Linear(4 * width, width)
        self.sentence = WordPool(width)
        self.out = nn.Linear(2 * width, width)
        self.dropout = Dropout(dropout)
        for parameter in (self.clip.weight, self.word.weight, self.product, self.sentence.weight.weight):
            nn.init.xavier_uniform_(parameter)

    def forward(self, video: Tensor, video_mask: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """video `[B, T, D]`, video_mask `[B, T]`, text `[B, L, D]`, text_mask `[B, L]` -> `[B, T, D]`, not
        negative.
        """
        clips, words = self.dropout(video), self.dropout(text)
        similarity = (
            self.clip(clips) + self.word(words).transpose(1, 2) + clips * self.product @ words.transpose(1, 2)
        )
        to_words = similarity.masked_fill(~text_mask[:, None], -torch.inf).softmax(2)
        to_clips = similarity.masked_fill(~video_mask[..., None], -torch.inf).softmax(1)
        read = to_words @ text
        returned = to_words @ to_clips.transpose(1, 2) @ video
        x = self.mix(torch.cat((video, read, video * read, video * returned), -1))
        sentence = self.sentence(text, text_mask)[:, None].expand(-1, video.shape[1], -1)
        return F.relu(self.out(torch.cat((x, sentence), -1)))
