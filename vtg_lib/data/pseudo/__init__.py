"""Training annotations from captioned intervals of videos (SG-DETR, Sec. 4.3.2: InterVid-MR).

`labels`: one caption, pure arithmetic. `captions`, `space`, `stream`, `report`: files of any size.
`world`: generated videos whose captions name one of several moments, so that the labels can be judged.
"""
